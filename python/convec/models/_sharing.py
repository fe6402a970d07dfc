"""What becomes of objects that several threads use at once.

:class:`Shared`: many may read, or one may write, and the others wait. Where a use takes long, and may call back into
Python, nobody waits: :func:`looks` and :func:`changes` refuse a second one by RuntimeError.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

_Method = TypeVar("_Method", bound=Callable[..., Any])

_all: weakref.WeakSet[Shared] = weakref.WeakSet()
_noting = threading.Lock()


class Shared:
    """An object whose methods are marked :func:`reads` or :func:`writes`. It may be copied and pickled.

    A thread that reads may read again, and write where it has to; one that writes may do both. So no method waits for
    the thread that called it.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Before ``__init__``, which unpickling leaves out."""
        del args, kwargs
        made = super().__new__(cls)
        made._renew()
        with _noting:
            _all.add(made)
        return made

    def _renew(self) -> None:
        """Forgets who uses the object: the threads of the parent do not exist in the child of a fork."""
        self._changed = threading.Condition(threading.Lock())
        self._filling = threading.RLock()  # held by a reader that fills in what others look for
        self._readers: dict[int, int] = {}
        self._writer = 0
        self._writes = 0
        self._waiting = 0
        self._upgrading = False
        self._version = 0  # odd while somebody writes

    @contextmanager
    def reading(self) -> Iterator[None]:
        """No other thread writes within ``with``."""
        me = threading.get_ident()
        with self._changed:
            if me not in self._readers and self._writer != me:
                while self._writer or self._waiting:
                    self._changed.wait()
            self._readers[me] = self._readers.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """No other thread reads or writes within ``with``.

        Raises:
            RuntimeError: this thread reads, and another one that reads waits to write.
        """
        me = threading.get_ident()
        with self._changed:
            if self._writer != me:
                self._wait_to_write(me)
            self._writer = me
            if not self._writes:
                self._version += 1
            self._writes += 1
        try:
            yield
        finally:
            with self._changed:
                self._writes -= 1
                if not self._writes:
                    self._version += 1
                    self._writer = 0
                    self._changed.notify_all()

    def _wait_to_write(self, me: int) -> None:
        upgrades = me in self._readers
        if upgrades and self._upgrading:
            raise RuntimeError("two threads that read the same object want to change it, and wait for each other")
        self._upgrading |= upgrades
        self._waiting += 1
        try:
            while self._writer or any(reader != me for reader in self._readers):
                self._changed.wait()
        finally:
            self._waiting -= 1
            if upgrades:
                self._upgrading = False
            if not self._waiting:
                self._changed.notify_all()


#: Attributes of :class:`Shared` that are of no use to copies and files.
OWN = frozenset({"_changed", "_filling", "_readers", "_writer", "_writes", "_waiting", "_upgrading", "_version"})


def _within(use: Callable[[Any, str], AbstractContextManager[object]]) -> Callable[[_Method], _Method]:
    """A decorator by which a method runs within ``use(object, its name)``."""

    def mark(method: _Method) -> _Method:
        @functools.wraps(method)
        def using(self: Any, *args: Any, **kwargs: Any) -> Any:
            with use(self, method.__name__):
                return method(self, *args, **kwargs)

        return cast("_Method", using)

    return mark


#: Marks a method of a :class:`Shared` during which no other thread writes.
reads = _within(lambda shared, _: shared.reading())
#: Marks a method of a :class:`Shared` during which no other thread reads or writes.
writes = _within(lambda shared, _: shared.writing())
#: Marks a method that raises RuntimeError where another thread changes the object, which has an ``_in_use``.
looks = _within(lambda used, name: used._in_use.looking(name))
#: Marks a method that raises RuntimeError where another thread uses the object, which has an ``_in_use``.
changes = _within(lambda used, name: used._in_use.changing(name))


def _after_fork() -> None:
    global _noting
    _noting = threading.Lock()
    for one in list(_all):
        one._renew()


os.register_at_fork(after_in_child=_after_fork)
