"""Work in the child of a fork."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def in_fork(work: Callable[[], bool], seconds: int = 30) -> bool:
    """What ``work`` says in the child of a fork. A child that hangs is ended by the alarm."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
