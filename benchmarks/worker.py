"""The process that measures one library: ``python worker.py LIBRARY THREADS``, started by ``harness.Worker``.

Reads one JSON request a line, calls a function of ``libraries/with_<LIBRARY>.py`` and answers with a line of JSON.
Needs NumPy and the library only, so that it runs in the peers' own environment.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import TextIO


def answer(stream: TextIO, content: dict[str, object]) -> None:
    print(json.dumps(content), file=stream, flush=True)


def main() -> None:
    library, threads = sys.argv[1], int(sys.argv[2])
    # What the library itself prints must not get between the answers.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        module = importlib.import_module(f"libraries.with_{library}")
    except ImportError as error:
        answer(replies, {"missing": f"{error} (in {sys.executable})"})
        return
    module.set_threads(threads)
    answer(replies, {"version": module.VERSION})
    for line in sys.stdin:
        request = json.loads(line)
        function = getattr(module, request["function"], None)
        try:
            answer(replies, {"result": None if function is None else function(**request["arguments"])})
        except Exception:
            answer(replies, {"error": traceback.format_exc()})


if __name__ == "__main__":
    main()
