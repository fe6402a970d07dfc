"""The table that ``model.summary()`` prints, as Keras 3 prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convec.layers import Layer


def readable_size(parameters: int) -> str:
    """Bytes of float32 numbers, as Keras writes them: '364.54 KB'."""
    size = 4.0 * parameters
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            return f"{size:.2f} {unit}"
        size /= 1024
    return ""


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width``, broken at spaces where there are any; a word that is too long is cut."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word if len(word) <= width else f"{word[: width - 1]}…")
    return lines


def _table(rows: Sequence[Sequence[str]], widths: Sequence[int], align: str) -> list[str]:
    def rule(left: str, cross: str, end: str, fill: str) -> str:
        return left + cross.join(fill * (width + 2) for width in widths) + end

    def cells(row: Sequence[str], bar: str) -> list[str]:
        wrapped = [_wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines = []
        for number in range(max(map(len, wrapped))):
            parts = (
                f"{lines_of[number] if number < len(lines_of) else '':{side}{width}}"
                for lines_of, side, width in zip(wrapped, align, widths, strict=True)
            )
            lines.append(f"{bar} " + f" {bar} ".join(parts) + f" {bar}")
        return lines

    lines = [rule("┏", "┳", "┓", "━"), *cells(rows[0], "┃"), rule("┡", "╇", "┩", "━")]
    for number, row in enumerate(rows[1:]):
        if number:
            lines.append(rule("├", "┼", "┤", "─"))
        lines.extend(cells(row, "│"))
    lines.append(rule("└", "┴", "┘", "─"))
    return lines


def text(
    name: str,
    layers: Sequence[Layer],
    optimizer_parameters: int,
    line_length: int | None,
    show_trainable: bool,
) -> str:
    """The whole summary. ``optimizer_parameters``: numbers the optimizer keeps; 0 hides the line."""
    header = ["Layer (type)", "Output Shape", "Param #", *(["Trainable"] if show_trainable else [])]
    # Contents as wide as Keras makes them on a terminal of 80 columns; line_length widens all alike.
    widths, align = ([27, 21, 10, 5], "<<>^") if show_trainable else ([31, 22, 13], "<<>")
    if line_length is not None:
        room = line_length - 3 * len(widths) - 1
        widths = [max(4, width * room // sum(widths)) for width in widths]
    rows: list[list[str]] = [header]
    trainable = other = 0
    for layer in layers:
        shape: Any = "?"
        count = "0 (unbuilt)"
        if layer.built:
            shape = layer.output_shape
            counts = layer.parameter_counts()
            trainable += counts[0]
            other += counts[1]
            count = f"{layer.count_params():,}"
        row = [f"{layer.name} ({type(layer).__name__})", str(shape), count]
        if show_trainable:
            row.append("Y" if layer.trainable and layer.built and layer.count_params() else "-")
        rows.append(row)
    lines = [f'Model: "{name}"', *_table(rows, widths, align)]
    everything = trainable + other + optimizer_parameters
    lines.append(f" Total params: {everything:,} ({readable_size(everything)})")
    lines.append(f" Trainable params: {trainable:,} ({readable_size(trainable)})")
    lines.append(f" Non-trainable params: {other:,} ({readable_size(other)})")
    if optimizer_parameters:
        lines.append(f" Optimizer params: {optimizer_parameters:,} ({readable_size(optimizer_parameters)})")
    return "\n".join(lines)
