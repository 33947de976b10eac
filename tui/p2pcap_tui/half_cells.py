"""A picture in a terminal: two pixels in each cell, the upper one the colour of `▀`, the lower one that of its ground.

Pure: pixels in, cells out; Pillow is not needed here. Always holds: a picture takes as many columns as it is wide and
half as many lines as it is high, and no more than it was given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

UPPER = "▀"
"""U+2580 UPPER HALF BLOCK."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Pixels:
    """`data` has three bytes a pixel, line after line from the top."""

    width: int
    height: int
    data: bytes

    def line(self, number: int) -> Sequence[Colour]:
        """The colours of a line."""
        start = 3 * self.width * number
        part = self.data[start : start + 3 * self.width]
        return list(zip(part[0::3], part[1::3], part[2::3], strict=True))


@dataclass(frozen=True)
class Run:
    """Neighbouring cells that look alike: how many, and their two colours; `lower` is None where there is no pixel."""

    cells: int
    upper: Colour
    lower: Colour | None


def fit(width: int, height: int, columns: int, lines: int) -> tuple[int, int]:
    """Pixels, wide and high, of a picture of `width` by `height` in so many columns and lines of cells.

    A cell is taken to be twice as high as wide. A picture is never made larger; each side has a pixel at least.
    """
    share = min(1.0, columns / max(1, width), 2 * lines / max(1, height))
    return max(1, int(width * share)), max(1, int(height * share))


def lines_of(pixels: Pixels) -> list[list[Run]]:
    """The picture's lines of cells, from the top."""
    found = []
    for top in range(0, pixels.height, 2):
        upper = pixels.line(top)
        lower: Sequence[Colour | None] = pixels.line(top + 1) if top + 1 < pixels.height else [None] * pixels.width
        groups = groupby(zip(upper, lower, strict=True))
        found.append([Run(sum(1 for _ in group), *colours) for colours, group in groups])
    return found
