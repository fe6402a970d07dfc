"""Each op has all its pieces, so that the lists of them cannot drift apart: declaration, validation, table row, driver,
binding, function of ``convec.ops`` with a docstring, case list and reference."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import cases
import pytest
import reference
from convec import _core, ops

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "cpp"

# Functions of convec.ops -> the functions of the C++ contract they call, where it is not `<name>` or `<name>_forward`.
CONTRACT = {
    "conv2d_backward": ["conv2d_backward_input", "conv2d_backward_filters"],
    "dense_backward": ["dense_backward_input", "dense_backward_weights"],
    "relu": ["activation_forward"],
    "relu_backward": ["activation_backward"],
    "batch_norm_training": ["batch_norm_forward_training"],
    "batch_norm_inference": ["batch_norm_forward_inference"],
    "pointwise_loss": ["pointwise_loss_forward"],
    "optimizer_slot_count": ["optimizer_slot_count"],
}
# Rows of the table that are not ops of their own.
HELPERS = {"find_bad_label"}


def strip_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def read_all(folder: Path, pattern: str) -> str:
    return "\n".join(strip_comments(path.read_text()) for path in sorted(folder.rglob(pattern)))


def declared() -> set[str]:
    """The ops that the contract's headers declare: what takes a context, and their companions."""
    text = read_all(CORE / "include" / "convec" / "ops", "*.hpp")
    companions = set(re.findall(r"CONVEC_API int (\w+_slot_count)\(", text))
    return set(re.findall(r"CONVEC_API [\w:<>*& ]+?\b(\w+)\(const Context&", text)) | companions


def table_rows() -> set[str]:
    text = strip_comments((CORE / "src" / "op_table.hpp").read_text())
    return set(re.findall(r"\(\*(\w+)\)\(", text[text.index("struct OpTable") :]))


def contract_of(name: str) -> list[str]:
    if name in CONTRACT:
        return CONTRACT[name]
    return [f"{name}_forward" if f"{name}_forward" in declared() else name]


def test_all_lists_the_public_functions() -> None:
    functions = [
        name for name, value in vars(ops).items()
        if inspect.isfunction(value) and value.__module__ == ops.__name__ and not name.startswith("_")
    ]  # fmt: skip
    assert sorted(functions) == sorted(ops.__all__)


@pytest.mark.parametrize("name", ops.__all__)
def test_op_has_all_its_pieces(name: str) -> None:
    function = getattr(ops, name)
    doc = inspect.getdoc(function) or ""
    assert len(doc) > 40, f"convec.ops.{name} has no docstring"
    for parameter in inspect.signature(function).parameters:
        assert parameter in doc, f"the docstring of convec.ops.{name} does not mention {parameter}"
    assert "Raises:" in doc, f"the docstring of convec.ops.{name} does not say what it raises"
    hints = inspect.get_annotations(function)
    assert set(inspect.signature(function).parameters) | {"return"} == set(hints), f"convec.ops.{name} is not typed"

    assert callable(getattr(reference, name, None)), f"tests/python/reference.py has no {name}"
    assert cases.CASES.get(name), f"tests/python/cases.py has no case of {name}"

    source = inspect.getsource(function)
    bindings = re.findall(r"_core\.(\w+)\(", source)
    assert bindings, f"convec.ops.{name} calls no binding"
    for binding in bindings:
        assert hasattr(_core, binding), f"convec._core has no {binding}"

    for contract in contract_of(name):
        assert contract in declared(), f"no header of cpp/include/convec/ops declares {contract}"
        definition = re.compile(rf"^(?:\w[\w:*& ]* )?{contract}\(", re.MULTILINE)
        assert definition.search(read_all(CORE / "src" / "ops", "*.cpp")), f"cpp/src/ops does not define {contract}"


def test_every_case_and_reference_belongs_to_an_op() -> None:
    assert set(cases.CASES) == set(ops.__all__)
    identifiers = [case.id for case in cases.ALL]
    assert len(identifiers) == len(set(identifiers))


def test_every_declaration_is_reachable_from_python() -> None:
    reached = {contract for name in ops.__all__ for contract in contract_of(name)}
    for name in declared():
        assert name in reached, f"{name} is declared, but no function of convec.ops calls it"


def test_table_rows_are_declared_filled_and_called() -> None:
    drivers = read_all(CORE / "src" / "cpu", "*.cpp")
    callers = read_all(CORE / "src" / "ops", "*.cpp") + read_all(CORE / "src" / "network", "*.cpp")
    on_cuda = read_all(ROOT / "cuda", "*.cu")
    for row in table_rows():
        assert re.search(rf"\btable\.{row} = ", drivers), f"no driver of cpp/src/cpu fills {row}"
        assert re.search(rf"\btable\.{row} = ", on_cuda), f"no file of cuda/ fills {row}"
        # A row that only the plan of a network or another row uses is called somewhere too.
        used = rf"(?:\.|->)\s*{row}\b(?! =)"
        assert re.search(used, callers) or re.search(used, drivers), f"nothing calls the row {row}"
    public = {contract for name in ops.__all__ for contract in contract_of(name)} - {"optimizer_slot_count"}
    assert public <= table_rows()
    prepared = {row for row in table_rows() if row.endswith(("_prepare", "_prepared_size"))}
    fused = {row for row in table_rows() if "_max_pool2d_" in row}
    # What a row of float32 does, on other arrays.
    bfloat16 = {row for row in table_rows() if row.endswith("_bfloat16")}
    assert {row.removesuffix("_bfloat16") for row in bfloat16} <= public
    assert table_rows() - public - prepared - fused - bfloat16 == HELPERS


@pytest.mark.parametrize("path", sorted((ROOT / "python" / "bindings").glob("register_*.cpp")), ids=lambda p: p.stem)
def test_bindings_are_registered_and_built(path: Path) -> None:
    function = path.stem
    folder = path.parent
    assert f"void {function}(" in (folder / "bindings.hpp").read_text()
    assert f"{function}(module)" in (folder / "module.cpp").read_text()
    assert path.name in (folder / "CMakeLists.txt").read_text()


@pytest.mark.parametrize("path", sorted((CORE / "src").rglob("*.cpp")), ids=lambda p: p.name)
def test_sources_are_built(path: Path) -> None:
    assert str(path.relative_to(CORE)) in (CORE / "CMakeLists.txt").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "cuda").glob("*.cu")), ids=lambda p: p.stem)
def test_cuda_sources_are_built(path: Path) -> None:
    assert path.name in (path.parent / "CMakeLists.txt").read_text()


@pytest.mark.parametrize("path", sorted((CORE / "src" / "cpu" / "kernels").glob("*.cpp")), ids=lambda p: p.stem)
def test_kernels_are_in_the_table(path: Path) -> None:
    if path.stem == "table":
        return
    folder = path.parent
    assert f'#include "cpu/kernels/{path.stem}.hpp"' in (folder / "kernel_table.hpp").read_text()
    assert f"fill_{path.stem}(table." in (folder / "table.cpp").read_text()


def test_bindings_give_the_lock_up_by_their_own_guards() -> None:
    """pybind11's end the program where the interpreter ends meanwhile: see gil.hpp."""
    bindings = ROOT / "python" / "bindings"
    source = read_all(bindings, "register_*.cpp") + read_all(bindings, "cuda_*.cpp")
    assert not re.findall(r"gil_scoped_\w+|PyGILState_Ensure|PyEval_SaveThread", source)
