"""Compares two files of the benchmarks: ``python benchmarks/compare.py BEFORE.json AFTER.json [--library convec]``.

Prints, for each case and library in both, the two medians and how many times better the second is. Ends with status 1
where a case of convec became worse by more than ``--tolerance``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any


def load(path: str) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        results = json.loads(pathlib.Path(path).read_text())["results"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is not a file of these benchmarks: {error!r}") from None
    return {(result["case"], result["library"]): result for result in results}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compares two files of the benchmarks.")
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--library", help="this one only")
    parser.add_argument("--tolerance", type=float, default=0.05, help="what counts as worse (0.05: by 5 %%)")
    options = parser.parse_args(argv)
    before, after = load(options.before), load(options.after)
    worse = 0
    print("| case | library | unit | before | after | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for key, new in after.items():
        case, library = key
        if key not in before or (options.library is not None and library != options.library):
            continue
        old = before[key]["median"]
        ratio = old / new["median"] if new["lower_is_better"] else new["median"] / old
        print(f"| {case} | {library} | {new['unit']} | {old:.4g} | {new['median']:.4g} | {ratio:.3f} |")
        worse += library.startswith("convec") and ratio < 1 - options.tolerance
    missing = sorted({f"{case} ({library})" for case, library in before.keys() ^ after.keys()})
    if missing:
        print(f"\nIn one file only: {', '.join(missing)}")
    if worse:
        print(f"\n{worse} cases of convec are worse by more than {options.tolerance:.0%}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
