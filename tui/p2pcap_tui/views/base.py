"""What a screen is: a View is told the node's newest moment while it is looked at, and draws what is new in it."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message_pump import _MessagePumpMeta
from textual.widget import Widget
from textual.widgets import Input

from p2pcap.node.client import Client
from p2pcap_tui.feed import Feed
from p2pcap_tui.moment import Moment

if TYPE_CHECKING:
    from p2pcap_tui.app import TerminalUI

T = TypeVar("T")

MAX_FILTER = 200
"""Characters of a filter."""


class Abstract(_MessagePumpMeta, ABCMeta):
    """Makes a widget whose abstract methods must be there; Textual's own metaclass does not ask for them."""


class View(Vertical, metaclass=Abstract):
    """One screen. `NAME` is its id, `DIGIT` the key that opens it, `TITLE` and `ABOUT` what the help calls it."""

    NAME: ClassVar[str]
    DIGIT: ClassVar[str]
    TITLE: ClassVar[str]
    ABOUT: ClassVar[str]

    DEFAULT_CSS = "View { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id=self.NAME)

    @abstractmethod
    def show(self, moment: Moment) -> None:
        """Show that moment. Called when the view is opened and for each snapshot while it is open: once a second."""

    def opened(self) -> None:
        """The view is looked at from now on. Called before `show`."""

    def closed(self) -> None:
        """The view is not looked at any more: no timer and no question of its should go on."""

    def escape(self) -> bool:
        """Esc was pressed: close what is open in here, or clear the filter. False: there was nothing to do."""
        return False

    def first_focus(self) -> Widget:
        """What has the focus when the view is opened."""
        return next((widget for widget in self.query("*") if widget.focusable), self)

    @classmethod
    def key_lists(cls) -> list[list[BindingType]]:
        """The bindings of this screen, its own before those of what it is made from."""
        return [base.__dict__.get("BINDINGS", []) for base in cls.__mro__ if issubclass(base, View)]

    @property
    def ui(self) -> "TerminalUI":
        """The app."""
        return cast("TerminalUI", self.app)

    @property
    def feed(self) -> Feed:
        """Where to ask the node."""
        return self.ui.feed

    @property
    def moment(self) -> Moment:
        """The newest one."""
        return self.ui.moment

    async def ask(self, question: Callable[[Client], T]) -> T | None:
        """As Feed.ask; what the node refuses is told to the user, and gives None."""
        return await self.ui.ask(question)


class FilterBar(Input):
    """Where a filter is typed, below a view; not there before somebody wants it."""

    DEFAULT_CSS = """
    FilterBar, FilterBar.-textual-compact {
        dock: bottom; display: none; height: 1; border: none; padding: 0 1; background: $panel;
    }
    FilterBar:focus { border: none; }
    FilterBar.-open, FilterBar.-textual-compact.-open { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(placeholder="filter: Enter keeps it, Esc clears it", max_length=MAX_FILTER, compact=True)


class FilteredView(View):
    """A view with a filter: `/` opens the bar, `filtered` is called for each letter typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show only what contains a text", id="filter"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.sought = ""
        self.bar = FilterBar()

    def compose(self) -> ComposeResult:
        """The view's own widgets, then the bar."""
        yield from self.body()
        yield self.bar

    @abstractmethod
    def body(self) -> ComposeResult:
        """The view's own widgets."""

    @abstractmethod
    def filtered(self, sought: str) -> None:
        """Show only what contains `sought`, whatever the case of letters."""

    def escape(self) -> bool:
        """Clear the filter."""
        was_open = self.bar.has_class("-open")
        if self.sought:  # before the bar goes, which takes longer to draw than the node takes to answer
            self.sought = ""
            self.filtered("")
        self.bar.value = ""
        self.bar.remove_class("-open")
        if was_open:
            self.first_focus().focus()
        return was_open

    def first_focus(self) -> Widget:
        """Not the bar."""
        return next((widget for widget in self.query("*") if widget.focusable and widget is not self.bar), self)

    def action_filter(self) -> None:
        """Open the bar."""
        self.bar.add_class("-open")
        self.bar.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A letter was typed."""
        if event.input is self.bar:
            event.stop()
            sought = event.value.strip()
            if sought != self.sought:
                self.sought = sought
                self.filtered(sought)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: back to the rows; an empty bar goes away."""
        if event.input is self.bar:
            event.stop()
            self.bar.set_class(bool(self.sought), "-open")
            self.first_focus().focus()
