"""The last line: the keys that are worth knowing here, and which of the screens this is. A click on any of them is as
good as pressing the key.

One line that is drawn when the view or the size changes; Textual's own footer is made of a widget for each key, and
costs more than all that it stands under.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.events import Click
from textual.widgets import Static

from p2pcap_tui.words import Line, Span, painted

GAP = 2
"""Columns between two keys."""


class Key(NamedTuple):
    """A key on the line: how it looks, and what it is."""

    spans: tuple[Span, ...]
    binding: Binding

    @property
    def width(self) -> int:
        """In columns."""
        return sum(cell_len(text) for text, _ in self.spans)


def worth_showing(*bindings: list[BindingType]) -> list[Binding]:
    """Those of the bindings that a view or the app wants shown."""
    return [one for some in bindings for one in some if isinstance(one, Binding) and one.show]


def places(bindings: list[Binding], views: list[Binding], opened: str | None, width: int) -> dict[int, Key]:
    """What the line holds, by its first column: the keys from the left, and the `views` from the right, of which the
    one with the id `opened` stands in brackets. Of those as much as there is room for."""
    found: dict[int, Key] = {}
    column = 1
    for binding in bindings:
        found[column] = Key(((_shown(binding), "accent"), (f" {binding.description}", "")), binding)
        column += found[column].width + GAP
    for form in _forms(views, opened):
        needed = sum(key.width + 1 for key in form)
        if column + needed <= width:
            column = width - needed
            break
    else:
        return found
    for key in form:
        found[column] = key
        column += key.width + 1
    return found


def key_line(held: dict[int, Key]) -> Line:
    """The line that holds these."""
    spans: list[Span] = []
    end = 0
    for column, key in held.items():
        spans += [(" " * (column - end), ""), *key.spans]
        end = column + key.width
    return spans


def key_at(held: dict[int, Key], column: int) -> Binding | None:
    """The key at that column."""
    return next((key.binding for start, key in held.items() if start <= column < start + key.width), None)


def _forms(views: list[Binding], opened: str | None) -> Iterator[list[Key]]:
    """The screens: all by name; the others by their digits only; the open one alone."""
    yield [_view(one, opened, True) for one in views]
    yield [_view(one, opened, False) for one in views]
    yield [_view(one, opened, False) for one in views if one.id == opened]


def _view(view: Binding, opened: str | None, named: bool) -> Key:
    if view.id == opened:
        return Key(((f"[{view.key} {view.description}]", "strong"),), view)
    return Key(((view.key, "accent"), (f" {view.description}" if named else "", "")), view)


def _shown(binding: Binding) -> str:
    return binding.key_display or binding.key


class KeyLine(Static):
    """The line, on the screen. `opening` are the app's keys that open the screens, with those as their ids; `common`
    those of its other keys that are worth knowing."""

    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self, opening: list[Binding], common: list[Binding]) -> None:
        super().__init__(markup=False)
        self._opening = opening
        self._common = common
        self._own: list[Binding] = []
        self._view: DOMNode | None = None
        self._held: dict[int, Key] = {}

    def show(self, view: DOMNode, own: list[Binding]) -> None:
        """Show what belongs to this screen, whose own keys are these."""
        self._view, self._own = view, own
        self._draw()

    def on_resize(self) -> None:
        """Other room, another line."""
        self._draw()

    def _draw(self) -> None:
        opened = self._view.id if self._view is not None else None
        held = places([*self._own, *self._common], self._opening, opened, self.size.width)
        if held != self._held:
            self._held = held
            self.update(painted([key_line(held)]), layout=False)

    async def on_click(self, event: Click) -> None:
        """As if the key had been pressed, but never as a letter of what is being typed."""
        binding = key_at(self._held, event.x)
        if binding is not None:
            await self.app.run_action(binding.action, self._view if binding in self._own else self.app)
