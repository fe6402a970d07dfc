"""Print the requirements of one optional-dependency group of pyproject.toml, quoted for a shell.

Usage: ``python tools/extra.py lint``. (``pip install .[lint]`` would build the package as well.)
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys


def requirements(group: str) -> list[str]:
    """The requirements of ``group``. Raises KeyError for a group that does not exist."""
    text = (pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text()
    # tomllib arrived in Python 3.11 only; the groups are plain lists of strings.
    section = text.split("[project.optional-dependencies]", 1)[1].split("\n[", 1)[0]
    match = re.search(rf"^{re.escape(group)} = (\[.*?\])$", section, re.MULTILINE | re.DOTALL)
    if match is None:
        raise KeyError(group)
    return list(ast.literal_eval(match.group(1)))


if __name__ == "__main__":
    print(" ".join(requirements(sys.argv[1])))
