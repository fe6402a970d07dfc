"""The table that ``model.summary()`` prints, as Keras 3 prints it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convec.layers import Layer


def readable_size(size: float) -> str:
    """Bytes as Keras writes them: '364.54 KB'."""
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

    def cells(row: Sequence[str], bar: str, *, at_bottom: bool = False) -> list[str]:
        wrapped = [_wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        height = max(map(len, wrapped))
        padded = [[""] * (height - len(cell)) + cell if at_bottom else cell for cell in wrapped]
        lines = []
        for parts in zip_longest(*padded, fillvalue=""):
            texts = (f"{part:{side}{width}}" for part, side, width in zip(parts, align, widths, strict=True))
            lines.append(f"{bar} " + f" {bar} ".join(texts) + f" {bar}")
        return lines

    lines = [rule("┏", "┳", "┓", "━"), *cells(rows[0], "┃", at_bottom=True), rule("┡", "╇", "┩", "━")]
    for number, row in enumerate(rows[1:]):
        if number:
            lines.append(rule("├", "┼", "┤", "─"))
        lines.extend(cells(row, "│"))
    lines.append(rule("└", "┴", "┘", "─"))
    return lines


def _widths(line_length: int, positions: Sequence[float]) -> list[int]:
    """Widths of the columns' contents, worked out as Keras and rich (whose table it prints) do one after the other.

    Raises:
        ValueError: a column would be too narrow.
    """
    widths: list[int] = []
    for position in positions:
        widths.append(int(position * line_length) - sum(widths))
        if widths[-1] < 4:
            raise ValueError(f"line_length is {line_length}, which is too narrow for the summary")
    widths = [width + 2 for width in widths]  # a space on either side
    excess = sum(widths) - (line_length - len(widths) - 1)
    for number, width in enumerate(widths):
        share = round(excess / (len(widths) - number))
        excess -= share
        widths[number] = width - share - 2
    return widths


def _range(layers: Sequence[Layer], layer_range: Sequence[str] | None) -> Sequence[Layer]:
    """The layers from the first that matches one pattern to the last that matches the other.

    Raises:
        ValueError: a pattern matches no layer, or there are not two.
    """
    if layer_range is None:
        return layers
    if len(layer_range) != 2:
        raise ValueError(f"layer_range is {layer_range!r}, but must be two names or patterns")
    ends = [[at for at, layer in enumerate(layers) if re.match(pattern, layer.name)] for pattern in layer_range]
    if not all(ends):
        raise ValueError(f"layer_range is {layer_range!r}, which does not match the names of the layers")
    first, last = sorted((ends[0][0], ends[1][-1]))
    return layers[first : last + 1]


def text(
    name: str,
    layers: Sequence[Layer],
    optimizer_parameters: int,
    line_length: int | None = None,
    show_trainable: bool = False,
    positions: Sequence[float] | None = None,
    layer_range: Sequence[str] | None = None,
) -> str:
    """The whole summary.

    Args:
        name: the model's.
        layers: its layers.
        optimizer_parameters: numbers the optimizer keeps; 0 hides the line.
        line_length: width of the table; by default 88 or what the terminal has room for.
        show_trainable: adds a column.
        positions: where the columns end, as shares of the width.
        layer_range: names or patterns of the first and the last layer shown.

    Raises:
        ValueError: ``line_length`` is too small, or ``layer_range`` matches nothing.
    """
    header = ["Layer (type)", "Output Shape", "Param #"]
    places, align, length = list(positions or (0.45, 0.80, 1.0)), "<<>", 88
    if show_trainable:
        header.append("Trainable")
        places, align, length = [0.9 * place for place in places] + [1.0], "<<>^", length + 12
    room = min(length, shutil.get_terminal_size().columns - 4)
    widths = _widths(room if line_length is None else line_length, places)
    rows: list[list[str]] = [header]
    for layer in _range(layers, layer_range):
        row = [f"{layer.name} ({type(layer).__name__})", "?", "0"]
        if layer.built:
            row[1:] = [str(layer.output_shape), f"{layer.count_params():,}"]
        elif layer.has_weights:
            row[2] = "0 (unbuilt)"
        if show_trainable:
            weighty = layer.built and layer.count_params() > 0
            row.append(("Y" if layer.trainable else "N") if weighty else "-")
        rows.append(row)
    counts = [layer.parameter_counts() for layer in layers]
    trainable, other = sum(count[0] for count in counts), sum(count[1] for count in counts)
    # The optimizer's count of steps has eight bytes, everything else four.
    optimizer_bytes = 4 * optimizer_parameters + (4 if optimizer_parameters else 0)
    everything = trainable + other + optimizer_parameters
    lines = [f'Model: "{name}"', *_table(rows, widths, align)]
    lines.append(f" Total params: {everything:,} ({readable_size(4 * (trainable + other) + optimizer_bytes)})")
    lines.append(f" Trainable params: {trainable:,} ({readable_size(4 * trainable)})")
    lines.append(f" Non-trainable params: {other:,} ({readable_size(4 * other)})")
    if optimizer_parameters:
        lines.append(f" Optimizer params: {optimizer_parameters:,} ({readable_size(optimizer_bytes)})")
    return "\n".join(lines)
