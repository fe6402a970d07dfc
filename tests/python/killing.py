"""Programs that are killed at random moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np


def kills() -> int:
    """How often a program is to be killed: ``CONVEC_KILLS``, by default 5."""
    return int(os.environ.get("CONVEC_KILLS", "5"))


def kill_at_random(program: str, longest: float, check: Callable[[], object]) -> None:
    """Runs Python code again and again, each time killed (kill -9) at a random moment after it has printed 'ready'.

    At last it runs to its end, with "last" among ``sys.argv``.

    Args:
        program: the code.
        longest: seconds until it is killed, at most.
        check: called after each kill.
    """
    rng = np.random.default_rng(0)
    environment = {**os.environ, "CONVEC_NUM_THREADS": "1"}
    for _ in range(kills()):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
        check()
    subprocess.run([sys.executable, "-c", program, "last"], check=True, env=environment, capture_output=True)
