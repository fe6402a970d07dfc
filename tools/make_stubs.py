"""Write python/convec/_core.pyi from the built extension module; with --check, only say whether it is up to date."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tempfile

STUB = pathlib.Path(__file__).parent.parent / "python" / "convec" / "_core.pyi"


def generate() -> str:
    """The stub's text, with the types that the generator leaves open made explicit."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pybind11_stubgen", "convec._core", "--output-dir", folder],
            check=True,
            capture_output=True,
        )
        text = (pathlib.Path(folder) / "convec" / "_core.pyi").read_text()
    # Bare generics are errors under mypy's strict mode.
    text = re.sub(r"\bdict\b(?!\[)", "dict[str, typing.Any]", text)
    text = re.sub(r"\btuple\b(?!\[)", "tuple[typing.Any, ...]", text)
    text = re.sub(r"-> list\b(?!\[)", "-> list[typing.Any]", text)
    text = re.sub(r"\bcollections\.abc\.Sequence\b(?!\[)", "collections.abc.Sequence[typing.Any]", text)
    text = re.sub(r"\bos\.PathLike\b(?!\[)", "os.PathLike[str]", text)
    # Arguments take whatever the binding checks itself; results are arrays of float32.
    text = re.sub(r"numpy\.ndarray(\[[^\n]*?\]\])?", "numpy.typing.NDArray[numpy.float32]", text)
    text = re.sub(r": typing\.SupportsInt( \| typing\.SupportsIndex)?", ": int", text)
    text = re.sub(r": typing\.SupportsFloat( \| typing\.SupportsIndex)?", ": float", text)
    text = re.sub(r": object\b", ": typing.Any", text)
    for module in ("collections.abc", "numpy.typing", "typing"):
        if f"{module}." in text and f"import {module}\n" not in text:
            future = "from __future__ import annotations\n"
            text = text.replace(future, f"{future}import {module}\n", 1)
    return text


def main() -> int:
    text = generate()
    if "--check" in sys.argv[1:]:
        if STUB.exists() and STUB.read_text() == text:
            return 0
        print("python/convec/_core.pyi is not what the bindings say: run `make stubs`", file=sys.stderr)
        return 1
    STUB.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
