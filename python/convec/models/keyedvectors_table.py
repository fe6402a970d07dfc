"""Vectors by key: the mapping, adding and ordering, and attributes of keys."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convec import _core
from convec.models._callers import stack_level
from convec.models._sharing import Shared, reads, writes

if TYPE_CHECKING:
    from convec.models.keyedvectors import KeyedVectors

logger = logging.getLogger("convec.models.keyedvectors")

Key = str | int | np.integer[Any]
Vector = NDArray[Any]
PathLike = str | os.PathLike[str]

KEY_TYPES = (str, int, np.integer)

# Names of gensim 3 and where their content is now.
_MOVED = {
    "accuracy": "evaluate_word_analogies(...)",
    "index2entity": "index_to_key",
    "index2word": "index_to_key",
    "syn0": "vectors",
    "syn0norm": "get_normed_vectors()",
    "vectors_norm": "get_normed_vectors()",
    "vocab": "key_to_index (a dict), index_to_key (a list) and get_vecattr(key, 'count')",
    "wv": "the object itself: these are the KeyedVectors already",
}


class AbsentKeyError(KeyError):
    """A key is absent. Near spellings are looked for when the message is read: not by code that expects the error."""

    def __init__(self, key: Any, keys: list[Any]) -> None:
        super().__init__(f"Key '{key}' not present")
        self._key = key
        self._keys = keys

    def __str__(self) -> str:
        near = []
        if isinstance(self._key, str):
            wanted = self._key.encode("utf8", "replace").decode()
            near = [self._keys[index] for index in _core.near_spellings(wanted, self._keys, 5)]
        hint = f"; near it are {', '.join(repr(key) for key in near)}" if near else ""
        return f"{self.args[0]}{hint}"

    def __reduce__(self) -> tuple[type[KeyError], tuple[str]]:
        return KeyError, (str(self),)


def as_list(value: Any) -> list[Any]:
    """One key or vector, or several of them, as a list."""
    if value is None:
        return []
    if isinstance(value, KEY_TYPES) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return [value]
    return list(value)


def deprecated(old: str, new: str) -> None:
    """Warns the caller's caller that a method has another name now."""
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=3)


def unit(vectors: Vector) -> Vector:
    """The vectors (along the last axis) at unit length; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms))


class KeyTable(Shared):
    """The vectors of :class:`convec.models.KeyedVectors`, which describes the arguments and the attributes."""

    def __init__(
        self, vector_size: int, count: int = 0, dtype: DTypeLike = np.float32, mapfile_path: PathLike | None = None
    ) -> None:
        self.vector_size = vector_size
        self.index_to_key: list[Any] = [None] * count
        self.key_to_index: dict[Any, int] = {}
        self.next_index = 0
        self.norms: NDArray[Any] | None = None
        self._vectors: Vector = np.zeros((count, vector_size), dtype=dtype)
        self.expandos: dict[str, NDArray[Any]] = {}
        self.mapfile_path = mapfile_path

    def __str__(self) -> str:
        return f"{type(self).__name__}<vector_size={self.vector_size}, {len(self)} keys>"

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        if name in _MOVED:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}' since gensim 4: use {_MOVED[name]}")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    # ------------------------------------------------------------------ vectors

    @property
    def vectors(self) -> Vector:
        """The (count, vector_size) array of vectors."""
        return self._vectors

    @vectors.setter
    def vectors(self, vectors: Vector) -> None:
        vectors = np.asanyarray(vectors)
        if vectors.ndim != 2:
            raise ValueError(f"vectors has shape {vectors.shape}, but must be (count, vector_size)")
        rows_apart, elements_apart = vectors.strides
        size = vectors.shape[1] * vectors.itemsize
        if (elements_apart != vectors.itemsize and vectors.shape[1] > 1) or (rows_apart < size and len(vectors) > 1):
            vectors = np.ascontiguousarray(vectors)
        with self.writing():
            self._vectors = vectors
            self.norms = None

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __getitem__(self, key_or_keys: Key | Iterable[Key]) -> Vector:
        """The vector of a key (read-only), or the (count, vector_size) vectors of several (a copy)."""
        if isinstance(key_or_keys, KEY_TYPES):
            return self.get_vector(key_or_keys)
        with self.reading():
            return self._vectors[[self.get_index(key) for key in key_or_keys]]

    def __setitem__(self, keys: Key | list[Key], weights: Any) -> None:
        """Adds keys and their vectors; vectors of keys that are present are replaced."""
        if not isinstance(keys, list):
            keys, weights = [keys], np.asarray(weights).reshape(1, -1)
        self.add_vectors(keys, weights, replace=True)

    def __contains__(self, key: object) -> bool:
        return self.has_index_for(key)

    def has_index_for(self, key: Any) -> bool:
        """Whether the key, or row number, is present."""
        return self.get_index(key, -1) >= 0

    def get_index(self, key: Any, default: int | None = None) -> int:
        """The row of a key. An integer that is no key is taken as a row number.

        Args:
            key: the key.
            default: returned for an absent key.

        Raises:
            KeyError: the key is absent and there is no default; the message lists near spellings.
        """
        index = self.key_to_index.get(key, -1)
        if index >= 0:
            return index
        if isinstance(key, (int, np.integer)) and 0 <= key < len(self.index_to_key):
            return int(key)
        if default is not None:
            return default
        raise AbsentKeyError(key, self.index_to_key)

    def get_vector(self, key: Key, norm: bool = False) -> Vector:
        """The vector of a key, read-only.

        Args:
            key: the key, or a row number.
            norm: at unit length.

        Raises:
            KeyError: the key is absent.
        """
        if norm:
            vector = self._unit_vector(key)
        else:
            # Without a lock, which would cost more than all the rest: nobody has written since the version was read.
            version = self._version
            index, vectors = self.get_index(key), self._vectors
            if version % 2 or version != self._version:
                with self.reading():
                    index, vectors = self.get_index(key), self._vectors
            vector = vectors[index]
        vector.setflags(write=False)
        return vector

    @reads
    def _unit_vector(self, key: Key) -> Vector:
        index = self.get_index(key)
        length = self._norms()[index]
        return np.asarray(self._vectors[index] / (length if length != 0 else length.dtype.type(1)))

    def word_vec(self, *args: Any, **kwargs: Any) -> Vector:
        """Deprecated name of :meth:`get_vector`."""
        deprecated("word_vec", "get_vector")
        return self.get_vector(*args, **kwargs)

    @reads
    def get_mean_vector(
        self,
        keys: Any,
        weights: Sequence[float] | NDArray[Any] | None = None,
        pre_normalize: bool = True,
        post_normalize: bool = False,
        ignore_missing: bool = True,
    ) -> Vector:
        """The weighted mean of several vectors.

        Args:
            keys: keys, row numbers or arrays of ``vector_size`` numbers.
            weights: one number a key; 1 without. The sum is divided by the sum of their absolute values.
            pre_normalize: vectors of keys (not arrays) are taken at unit length.
            post_normalize: the mean is returned at unit length.
            ignore_missing: absent keys are left out instead of raising.

        Returns:
            (vector_size,), of the vectors' dtype (float32 with ``post_normalize``).

        Raises:
            ValueError: there are no keys, or not as many weights, or an array has another size.
            KeyError: a key is absent and ``ignore_missing`` is False.
        """
        keys = as_list(keys)
        if not keys:
            raise ValueError("cannot compute mean with no input")
        factors = np.ones(len(keys)) if weights is None else np.asarray(weights, np.float64)
        if factors.shape != (len(keys),):
            raise ValueError(
                f"keys and weights array must have same number of elements; there are {len(keys)} keys and weights of "
                f"shape {factors.shape}"
            )
        rows, used = [], []
        for key, factor in zip(keys, factors, strict=True):
            if isinstance(key, np.ndarray):
                if key.shape != (self.vector_size,):
                    raise ValueError(f"a vector has shape {key.shape}, but must be ({self.vector_size},)")
                rows.append(key)
            elif key in self:
                rows.append(self.get_vector(key, norm=pre_normalize))
            elif ignore_missing:
                continue
            else:
                raise AbsentKeyError(key, self.index_to_key)
            used.append(factor)
        mean = np.zeros(self.vector_size)
        if rows:
            mean = np.asarray(used) @ np.stack(rows).astype(np.float64)
        total = np.abs(used).sum() if used else 0.0
        if total > 0:
            mean /= total
        return unit(mean).astype(np.float32) if post_normalize else mean.astype(self._vectors.dtype)

    def _make_writable(self) -> None:
        """Before vectors are changed in place: a copy of mapped ones, and no norms."""
        if not self._vectors.flags.writeable:
            self._vectors = np.array(self._vectors)
        self.norms = None

    def _norms(self) -> NDArray[Any]:
        self.fill_norms()
        return cast("NDArray[Any]", self.norms)

    @reads
    def fill_norms(self, force: bool = False) -> None:
        """Computes :attr:`norms` where they are not there yet, or again with ``force`` after vectors were changed."""
        with self._filling:
            if self.norms is None or force or len(self.norms) != len(self._vectors):
                if self._vectors.dtype == np.float32:
                    self.norms = _core.vector_norms(self._vectors)
                else:
                    self.norms = np.linalg.norm(self._vectors, axis=1)

    @reads
    def get_normed_vectors(self) -> Vector:
        """All vectors at unit length, a new (count, vector_size) array. Zero vectors stay zero."""
        norms = self._norms()
        return np.asarray(self._vectors / np.where(norms == 0, 1, norms).astype(norms.dtype)[:, np.newaxis])

    @writes
    def unit_normalize_all(self) -> None:
        """Scales all vectors to unit length, in place. Training cannot sensibly go on after that."""
        norms = self._norms()
        self._make_writable()
        self._vectors /= np.where(norms == 0, 1, norms).astype(norms.dtype)[:, np.newaxis]
        self.fill_norms()

    def init_sims(self, replace: bool = False) -> None:
        """Deprecated: :meth:`fill_norms`, or :meth:`unit_normalize_all` with ``replace``."""
        deprecated("init_sims", "fill_norms")
        self.fill_norms()
        if replace:
            self.unit_normalize_all()

    # ------------------------------------------------------------------ adding and ordering

    @writes
    def add_vector(self, key: Key, vector: Any) -> int:
        """Adds one vector, into a prepared slot where there is one (see ``count``).

        A key that is present keeps its vector.

        Returns:
            The row of the key.

        Raises:
            ValueError: the vector has another size.
        """
        vector = np.asarray(vector)
        if vector.shape != (self.vector_size,):
            raise ValueError(f"vector has shape {vector.shape}, but must be ({self.vector_size},)")
        if key in self.key_to_index:
            logger.warning("key %r is present; its vector is kept (assign to [key] to replace it)", key)
            return self.key_to_index[key]
        index = self.next_index
        if index < len(self) and self.index_to_key[index] is None:
            self.index_to_key[index] = key
            self.key_to_index[key] = index
            self._make_writable()
            self._vectors[index] = vector
            self.next_index += 1
            return index
        warnings.warn(
            "Adding single vectors to a KeyedVectors which grows by one each time can be costly. Consider adding in "
            "batches or preallocating to the required size.",
            UserWarning,
            stacklevel=stack_level(),
        )
        index = len(self)
        self.add_vectors([key], vector[np.newaxis])
        self.next_index = index + 1
        return index

    @writes
    def add_vectors(
        self,
        keys: Key | Sequence[Key],
        weights: Any,
        extras: Mapping[str, NDArray[Any]] | None = None,
        replace: bool = False,
    ) -> None:
        """Adds keys and their vectors at the end.

        Args:
            keys: the keys.
            weights: one vector a key, (count, vector_size).
            extras: arrays of one value a key, by the name of their attribute (:meth:`get_vecattr`).
            replace: keys that are present take the new vector and extras, instead of keeping theirs.

        Raises:
            ValueError: the numbers of keys, vectors and extras differ, or a vector has another size.
            TypeError: an extra does not fit its attribute's type.
        """
        if isinstance(keys, KEY_TYPES):
            keys, weights = [keys], np.asarray(weights).reshape(1, -1)
        keys = list(keys)
        weights = np.asarray(weights)
        if not keys and weights.size == 0:
            return
        if weights.shape != (len(keys), self.vector_size):
            raise ValueError(
                f"weights has shape {weights.shape}, but must be ({len(keys)}, {self.vector_size}): one vector a key"
            )
        values = {name: np.asarray(array) for name, array in (extras or {}).items()}
        for name, array in values.items():
            if len(array) != len(keys):
                raise ValueError(f"extras[{name!r}] has {len(array)} values, but there are {len(keys)} keys")
        self.allocate_vecattrs(list(values), [array.dtype.type for array in values.values()])

        old = len(self)
        fresh = []
        for position, key in enumerate(keys):
            if key not in self.key_to_index:
                self.key_to_index[key] = len(self.index_to_key)
                self.index_to_key.append(key)
                fresh.append(position)
        if fresh:
            self.vectors = np.concatenate((self._vectors, weights[fresh].astype(self._vectors.dtype)))
            self.allocate_vecattrs()
        for name, array in values.items():
            self.expandos[name][old:] = array[fresh]
        if replace:
            added = set(fresh)
            rest = [position for position in range(len(keys)) if position not in added]
            indices = [self.key_to_index[keys[position]] for position in rest]
            self._make_writable()
            self._vectors[indices] = weights[rest]
            for name, array in values.items():
                self.expandos[name][indices] = array[rest]

    @writes
    def resize_vectors(self, seed: int = 0) -> None:
        """Gives :attr:`vectors` a row for every key; new rows are random."""
        self.vectors = prep_vectors((len(self.index_to_key), self.vector_size), prior_vectors=self._vectors, seed=seed)
        self.allocate_vecattrs()

    @reads
    def vectors_for_all(
        self, keys: Iterable[Hashable], allow_inference: bool = True, copy_vecattrs: bool = False
    ) -> KeyedVectors:
        """Vectors of those of the keys that are present, as new KeyedVectors in the order of the keys.

        Args:
            keys: the keys; duplicates are left out.
            allow_inference: also those for which a subclass finds a vector although they are no keys.
            copy_vecattrs: attributes are copied too.
        """
        from convec.models.keyedvectors import KeyedVectors

        known: Any = self if allow_inference else self.key_to_index
        chosen = [key for key in dict.fromkeys(keys) if key in known]
        indices = [self.get_index(key, -1) for key in chosen]
        result = KeyedVectors(self.vector_size, 0, dtype=self._vectors.dtype)
        result.index_to_key = chosen
        result.key_to_index = {key: index for index, key in enumerate(chosen)}
        vectors = np.array(self._vectors[indices])
        for row, index in enumerate(indices):
            if index < 0:
                vectors[row] = self.get_vector(cast("Key", chosen[row]))
        result.vectors = vectors
        result.next_index = len(chosen)
        result.expandos["count"] = np.arange(len(chosen), 0, -1, dtype=np.int64)
        if copy_vecattrs:
            present = np.asarray(indices, np.int64) >= 0
            for name, array in self.expandos.items():
                if name not in result.expandos:
                    result.expandos[name] = np.zeros(len(chosen), array.dtype)
                result.expandos[name] = result.expandos[name].astype(array.dtype, copy=False)
                result.expandos[name][present] = array[np.asarray(indices, np.int64)[present]]
        return result

    @writes
    def sort_by_descending_frequency(self) -> None:
        """Puts the keys in the order of their attribute 'count', the most frequent first; equal ones keep theirs."""
        if not len(self):
            return
        order = np.argsort(-np.asarray(self.expandos["count"], np.int64), kind="stable")
        self.index_to_key = [self.index_to_key[index] for index in order]
        self.allocate_vecattrs()
        for name, array in self.expandos.items():
            self.expandos[name] = array[order]
        if len(self._vectors):
            logger.warning("sorting after vectors have been allocated is expensive & error-prone")
            self.vectors = self._vectors[order]
        self.key_to_index = {key: index for index, key in enumerate(self.index_to_key)}

    # ------------------------------------------------------------------ attributes

    @writes
    def allocate_vecattrs(self, attrs: Sequence[str] | None = None, types: Sequence[Any] | None = None) -> None:
        """Makes arrays of attributes, or lengthens them, to one element a key.

        Args:
            attrs: names; all there are without.
            types: their element types.

        Raises:
            TypeError: an attribute is there with a type that cannot hold the new one.
        """
        if attrs is None or types is None:
            attrs = list(self.expandos)
            types = [array.dtype for array in self.expandos.values()]
        size = len(self.index_to_key)
        for name, wanted in zip(attrs, types, strict=True):
            dtype = np.dtype(np.int64 if wanted is int else wanted)
            if dtype.kind in "US":
                # NumPy's own strings take the space of the longest each.
                dtype = np.dtype(object)
            old = self.expandos.get(name)
            if old is None:
                self.expandos[name] = np.zeros(size, dtype)
                continue
            if not np.issubdtype(dtype, old.dtype):
                raise TypeError(
                    f"Can't allocate type {wanted} for attribute {name}, conflicts with its existing type {old.dtype}"
                )
            if len(old) != size:
                self.expandos[name] = np.zeros(size, old.dtype)
                kept = min(size, len(old))
                self.expandos[name][:kept] = old[:kept]

    @writes
    def set_vecattr(self, key: Key, attr: str, val: Any) -> None:
        """Sets an attribute of a key. The first value of an attribute sets its type.

        Raises:
            KeyError: the key is absent.
            TypeError: the value does not fit the attribute's type.
        """
        index = self.get_index(key)
        self.allocate_vecattrs([attr], [type(val)])
        self.expandos[attr][index] = val

    @reads
    def get_vecattr(self, key: Key, attr: str) -> Any:
        """An attribute of a key.

        Raises:
            KeyError: the key or the attribute is absent.
        """
        return self.expandos[attr][self.get_index(key)]

    lifecycle_events: ClassVar[Any] = ()

    def add_lifecycle_event(self, event_name: str, log_level: int | bool = logging.INFO, **event: Any) -> None:
        """Logs an event of these vectors' life and keeps it in ``lifecycle_events``.

        Args:
            event_name: its name.
            log_level: level of the log line; False for none.
            event: what else is to be kept.
        """
        record = {"event": event_name, "datetime": time.strftime("%Y-%m-%dT%H:%M:%S"), **event}
        vars(self)["lifecycle_events"] = [*self.lifecycle_events, record]
        if log_level:
            logger.log(int(log_level), "%s lifecycle event %s", type(self).__name__, record)


def prep_vectors(
    target_shape: tuple[int, int],
    prior_vectors: Vector | None = None,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Vector:
    """Vectors of a shape: those there are, and random numbers in [-1, 1) / size for the rest.

    Args:
        target_shape: (count, size).
        prior_vectors: kept, in the corner that they fill; returned themselves where they have the shape.
        seed: of the random numbers.
        dtype: float32 or float64.
    """
    prior = np.zeros((0, 0), dtype) if prior_vectors is None else prior_vectors
    if prior.shape == target_shape:
        return prior
    generator: Any = np.random.default_rng(seed=seed)
    random = generator.random(target_shape, dtype=dtype)
    vectors = np.asarray((random * 2 - 1) / target_shape[1], dtype)
    vectors[: prior.shape[0], : prior.shape[1]] = prior
    return vectors
