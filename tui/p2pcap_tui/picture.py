"""A pane with a picture in half cells, or with words while there is none."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from rich.cells import set_cell_size
from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual import work
from textual.strip import Strip
from textual.widget import Widget

from p2pcap.cli.output import clean
from p2pcap.errors import ImageError
from p2pcap_tui.half_cells import UPPER, Colour, Run, lines_of
from p2pcap_tui.preview import pixels_of


class Picture(Widget):
    """The pane. What it shows is decoded on a thread for the room that there is."""

    DEFAULT_CSS = "Picture { background: $background; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._file = b""
        self._strips: list[Strip] = []
        self._words = ""
        self._columns = 0

    def say(self, words: str) -> None:
        """Show words instead of a picture, and forget that one."""
        self.workers.cancel_node(self)
        self._file, self._strips, self._words = b"", [], clean(words)
        self.refresh()

    def draw(self, file: bytes) -> None:
        """Show the image in these bytes, or why it cannot be shown."""
        self._file = file
        self._decode()

    def on_resize(self) -> None:
        """Other room, another picture."""
        if self._file:
            self._decode()

    @work(exclusive=True, group="decode")
    async def _decode(self) -> None:
        file, columns, lines = self._file, self.size.width, self.size.height
        if not (columns and lines):
            return
        try:
            pixels = await asyncio.to_thread(pixels_of, file, columns, lines)
        except ImageError as error:
            self.say(str(error))
            return
        self._columns, self._words = pixels.width, ""
        self._strips = [self._strip(line) for line in lines_of(pixels)]
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line at `y`."""
        width = self.size.width
        if y < len(self._strips):
            return self._strips[y].adjust_cell_length(width, self.rich_style)
        words = self._words[width * y : width * (y + 1)] if self._words else ""
        return Strip([Segment(set_cell_size(words, width), self.rich_style)], width)

    def _strip(self, line: Sequence[Run]) -> Strip:
        """A line of the picture. Made once: to make a style for each cell takes longer than all else."""
        base = self.rich_style
        segments = [Segment(UPPER * run.cells, base + _style(run.upper, run.lower)) for run in line]
        return Strip([Segment(" " * max(0, (self.size.width - self._columns) // 2), base), *segments])


@lru_cache(maxsize=4_096)
def _style(upper: Colour, lower: Colour | None) -> Style:
    return Style.from_color(_colour(upper), _colour(lower) if lower is not None else None)


def _colour(colour: Colour) -> Color:
    return Color.from_triplet(ColorTriplet(*colour))
