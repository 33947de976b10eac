"""A screen that is one page of lines, which scrolls where it is too long."""

from abc import abstractmethod

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from p2pcap_tui.moment import Moment
from p2pcap_tui.views.base import View
from p2pcap_tui.words import Line, painted


class LinesView(View):
    """The page. It is drawn anew where its lines are other ones."""

    DEFAULT_CSS = "LinesView Static { width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self) -> None:
        super().__init__()
        self._page = Static(markup=False)
        self._lines: list[Line] = []

    def compose(self) -> ComposeResult:
        """The page."""
        with VerticalScroll():
            yield self._page

    @abstractmethod
    def lines(self, moment: Moment) -> list[Line]:
        """The page at that moment, in the room that there is."""

    def show(self, moment: Moment) -> None:
        """Draw what is new."""
        self.draw(moment)

    def on_resize(self) -> None:
        """Other room, another page."""
        self.draw(self.moment)

    def draw(self, moment: Moment) -> None:
        """Draw the page at that moment, unless it is there already."""
        lines = self.lines(moment)
        if lines != self._lines:
            self._page.update(painted(lines), layout=len(lines) != len(self._lines))
            self._lines = lines
