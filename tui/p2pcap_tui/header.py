"""The line above every screen: which project, whether the node works, how many peers, how fast."""

from rich.cells import cell_len
from textual.widgets import Static

from p2pcap.cli.output import clean
from p2pcap_tui.moment import Moment
from p2pcap_tui.state import State, state_of
from p2pcap_tui.words import Line, Span, number, painted

TITLE = 24
"""Columns of a project's title, at most."""


def header_line(moment: Moment, width: int) -> Line:
    """The line in `width` columns: what matters least is left out first."""
    state = state_of(moment)
    parts = _parts(moment, state)
    while len(parts) > 1 and _width([span for _, span in sorted(parts)]) > width - 2:
        parts.pop()  # the last is the one that matters least
    spans = [span for _, span in sorted(parts)]
    line: list[Span] = [(" ", "")]
    for index, span in enumerate(spans):
        line += [(" · ", "dim")] if index else []
        line.append(span)
    return line


def _parts(moment: Moment, state: State) -> list[tuple[int, Span]]:
    """Place in the line and span, those that matter most first."""
    parts: list[tuple[int, Span]] = [(3, (f"{state.glyph} {state.word}", state.style))]
    snapshot = moment.snapshot
    if snapshot is None:
        return [*parts, (0, ("p2pcap", "strong"))]
    parts.append((1, (_short(snapshot.project.title), "strong")))
    parts.append((4, (f"{number(snapshot.connected)} peers", "")))
    if snapshot.node.role == "volunteer":
        parts.append((5, (f"{snapshot.engine.rate:.1f} img/s", "")))
    parts.append((0, ("p2pcap", "dim")))
    if snapshot.project.manifest:
        parts.append((2, (f"manifest v{snapshot.project.manifest} ✓signed", "")))
    return parts


def _width(spans: list[Span]) -> int:
    return sum(cell_len(clean(text)) for text, _ in spans) + 3 * (len(spans) - 1)


def _short(title: str) -> str:
    title = clean(title)
    return title if len(title) <= TITLE else title[: TITLE - 1] + "…"


class Header(Static):
    """The line, on the screen."""

    DEFAULT_CSS = """
    Header { dock: top; height: 1; background: $panel; color: $foreground; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._moment: Moment | None = None
        self._line: Line = ()

    def show(self, moment: Moment) -> None:
        """Show that moment; draws only what is new."""
        self._moment = moment
        line = header_line(moment, self.size.width or 80)
        if line != self._line:
            self._line = line
            self.update(painted([line]), layout=False)

    def on_resize(self) -> None:
        """Other room, another line."""
        if self._moment is not None:
            self.show(self._moment)
