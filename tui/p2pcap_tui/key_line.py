"""The last line: the keys that are worth knowing here. A click on one is as good as the key.

One line that is drawn when the view changes; Textual's own footer is made of a widget for each key, and costs more than
all that it stands under.
"""

from textual.binding import Binding, BindingType
from textual.events import Click
from textual.widgets import Static

from p2pcap_tui.words import Line, Span, painted

GAP = 2
"""Columns between two keys."""


def worth_showing(*bindings: list[BindingType]) -> list[Binding]:
    """Those of the bindings that a view or the app wants shown."""
    return [one for some in bindings for one in some if isinstance(one, Binding) and one.show]


def key_line(bindings: list[Binding]) -> Line:
    """The line: each key before what it does."""
    spans: list[Span] = [(" ", "")]
    for binding in bindings:
        spans += [(_shown(binding), "accent"), (f" {binding.description}{' ' * GAP}", "")]
    return spans


def key_at(bindings: list[Binding], column: int) -> str | None:
    """The key that is shown at that column."""
    start = 1
    for binding in bindings:
        width = len(_shown(binding)) + 1 + len(binding.description)
        if start <= column < start + width:
            return binding.key.split(",")[0]
        start += width + GAP
    return None


def _shown(binding: Binding) -> str:
    return binding.key_display or binding.key


class KeyLine(Static):
    """The line, on the screen."""

    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._bindings_shown: list[Binding] = []

    def show(self, bindings: list[Binding]) -> None:
        """Show these."""
        if bindings != self._bindings_shown:
            self._bindings_shown = bindings
            self.update(painted([key_line(bindings)]), layout=False)

    async def on_click(self, event: Click) -> None:
        """As if the key had been pressed."""
        if key := key_at(self._bindings_shown, event.x):
            self.app.simulate_key(key)
