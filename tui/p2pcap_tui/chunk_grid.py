"""The map of chunks on the screen: a cell for each, with a cursor.

Always holds: only the lines that can be seen are drawn, and of a new map only those that look different; a letter and
its colour say the same.
"""

from itertools import groupby
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from p2pcap.node.chunk_map import LETTERS
from p2pcap_tui.chunk_cells import GLYPHS, Cells, fitted, one_each


class ChunkGrid(ScrollView, can_focus=True):
    """The map of one stage. Arrow keys move the cursor, Enter chooses its chunk."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"grid--{word}" for word in LETTERS.values()}

    DEFAULT_CSS = """
    ChunkGrid { height: 1fr; background: $background; scrollbar-size-horizontal: 0; }
    ChunkGrid > .grid--free { color: $text-muted; }
    ChunkGrid > .grid--begun { text-style: bold; }
    ChunkGrid > .grid--claimed { color: $text-warning; text-style: bold; }
    ChunkGrid > .grid--done { color: $foreground; }
    ChunkGrid > .grid--checked { color: $text-success; }
    ChunkGrid > .grid--failed { color: $text-error; text-style: bold; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1, 0)", "Chunk before", show=False),
        Binding("right,l", "move(1, 0)", "Chunk after", show=False),
        Binding("up,k", "move(0, -1)", "Line above", show=False),
        Binding("down,j", "move(0, 1)", "Line below", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First chunk", show=False),
        Binding("end,G", "edge(1)", "Last chunk", show=False),
        Binding("enter", "choose", "Who did it", show=False),
    ]

    class Chosen(Message):
        """Enter on a chunk, or a click on the one with the cursor."""

        def __init__(self, chunk: int) -> None:
            self.chunk = chunk
            super().__init__()

    class Moved(Message):
        """The cursor is on another chunk."""

        def __init__(self, chunk: int) -> None:
            self.chunk = chunk
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.chunk = 0
        """The one that the cursor is on."""
        self.fits = False
        self._letters = ""
        self.cells: Cells = one_each("", 1)

    def show(self, letters: str) -> None:
        """Show these letters from now on, one for each chunk."""
        if letters == self._letters:
            return
        before, self._letters = self.cells, letters
        self.chunk = max(0, min(self.chunk, len(letters) - 1))
        self._arrange()
        if (before.width, before.chunks, before.height) != (self.cells.width, self.cells.chunks, self.cells.height):
            self.refresh()
            return
        for y in range(self.size.height):
            line = self.scroll_offset.y + y
            if before.line(line) != self.cells.line(line):
                self.refresh(Region(0, y, self.size.width, 1))

    def move_to(self, chunk: int) -> None:
        """Put the cursor on a chunk, or the nearest there is."""
        chunk = max(0, min(chunk, len(self._letters) - 1))
        if chunk == self.chunk or not self._letters:
            return
        self.chunk = chunk
        self._follow()
        self.refresh()
        self.post_message(self.Moved(chunk))

    def render_line(self, y: int) -> Strip:
        """The line at `y` of the window."""
        line, width = self.scroll_offset.y + y, self.size.width
        letters = self.cells.line(line)
        column = self.cells.place_of(self.chunk) if letters else (-1, -1)
        at = column[0] if column[1] == line else -1
        runs = groupby(enumerate(letters), key=lambda cell: (cell[1], cell[0] == at))
        segments = [
            Segment("".join(GLYPHS[letter] for _ in run), self._look(letter, cursor=here))
            for (letter, here), run in runs
        ]
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def action_move(self, columns: int, lines: int) -> None:
        """The cursor by so many cells."""
        self.move_to(self.chunk + self.cells.chunks * (columns + lines * self.cells.width))

    def action_page(self, by: int) -> None:
        """The cursor by a page."""
        self.action_move(0, by * max(1, self.size.height - 1))

    def action_edge(self, which: int) -> None:
        """The cursor to the first or the last chunk."""
        self.move_to(0 if which < 0 else len(self._letters) - 1)

    def action_choose(self) -> None:
        """Choose the chunk."""
        if self._letters:
            self.post_message(self.Chosen(self.chunk))

    def fit(self) -> None:
        """All chunks at once, or each in a cell of its own."""
        self.fits = not self.fits
        self._arrange()
        self._follow()
        self.refresh()
        self.post_message(self.Moved(self.chunk))

    def on_resize(self, event: Resize) -> None:
        """Lines are as long as there is room."""
        self._arrange()
        self._follow()
        self.refresh()

    def on_click(self, event: Click) -> None:
        """The cursor goes to the cell; a second click chooses it."""
        chunk = self.cells.chunk_at(event.x, self.scroll_offset.y + event.y)
        if chunk is not None and chunk == self.chunk:
            self.action_choose()
        elif chunk is not None:
            self.move_to(chunk)

    def _arrange(self) -> None:
        width, height = self.size.width, self.size.height
        cells = one_each(self._letters, width)
        self.cells = fitted(self._letters, width, height) if self.fits and cells.height > height else cells
        self.virtual_size = Size(width, self.cells.height)

    def _follow(self) -> None:
        """Scroll so that the cursor can be seen."""
        _, line = self.cells.place_of(self.chunk)
        top, page = self.scroll_offset.y, max(1, self.size.height)
        if not top <= line < top + page:
            self.scroll_to(y=line if line < top else line - page + 1, animate=False, immediate=True)

    def _look(self, letter: str, *, cursor: bool) -> Style:
        style = self.rich_style + self.get_component_rich_style(f"grid--{LETTERS[letter]}", partial=True)
        return style + Style(reverse=True) if cursor else style
