"""What lies over a screen until it is closed: details of a row, a question before something is stopped."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from p2pcap_tui.words import Line, painted

FRAME = """
{name} {{ align: center middle; }}
{name} VerticalScroll {{
    width: 90%; max-width: 100; height: auto; max-height: 90%; padding: 0 1;
    background: $surface; border: round $primary; border-title-color: $text-primary;
}}
{name} Static {{ width: 1fr; }}
"""


class Details(ModalScreen[None]):
    """Lines under a title. Lines may be added while they are read."""

    DEFAULT_CSS = FRAME.format(name="Details")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", "Close", tooltip="Back to the table", id="details-close"),
    ]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self._heading = title
        self._lines = list(lines)
        self._text = Static(markup=False)

    def compose(self) -> ComposeResult:
        """The frame."""
        with VerticalScroll() as frame:
            frame.border_title = painted([[(self._heading, "")]]).markup
            yield self._text

    def on_mount(self) -> None:
        """Show the lines."""
        self._text.update(painted(self._lines))

    def add(self, lines: Sequence[Line]) -> None:
        """More lines, below."""
        self._lines += lines
        if self.is_mounted:
            self._text.update(painted(self._lines))

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


class Confirm(ModalScreen[bool]):
    """A question that is answered with yes or no; Esc and Enter are no."""

    DEFAULT_CSS = FRAME.format(name="Confirm")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", tooltip="Do it", id="confirm-yes"),
        Binding("n,escape,enter,q", "answer(False)", "No", tooltip="Do not", id="confirm-no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and the keys that answer it."""
        with VerticalScroll():
            yield Static(painted([[(self._question, "strong")], [], [("y yes   n no", "accent")]]), markup=False)

    def action_answer(self, answer: bool) -> None:
        """The answer."""
        self.dismiss(answer)
