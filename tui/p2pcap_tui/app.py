"""The app: a header, one view at a time, the keys below. It owns the newest moment, and gives it to the open view.

Always holds: a snapshot draws once; nothing here waits for the node; leaving leaves the node as it is, unless somebody
asked to stop it.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar, TypeVar, cast

from textual import work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input, Static, TextArea

from p2pcap.cli.output import clean
from p2pcap.errors import P2pcapError
from p2pcap.node.client import Client
from p2pcap_tui import verbs
from p2pcap_tui.dialogs import Details
from p2pcap_tui.feed import Arrived, Feed, Gone
from p2pcap_tui.header import Header
from p2pcap_tui.key_line import KeyLine, worth_showing
from p2pcap_tui.moment import STALE, Memory, Moment
from p2pcap_tui.views import VIEWS
from p2pcap_tui.views.base import View

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two looks at whether the node still answers."""


def in_background() -> bool:
    """Whether the shell has given the terminal to another program: then nothing may be drawn on it."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False  # no terminal


class TerminalUI(App[None]):
    """The terminal UI over `feed`. `clock` gives unix seconds."""

    TITLE = "p2pcap"
    AUTO_FOCUS = None

    CSS = """
    Screen { layout: vertical; overflow: hidden; }
    #too-small { display: none; padding: 1 1; }
    Screen.-tiny ContentSwitcher, Screen.-flat ContentSwitcher, Screen.-tiny KeyLine, Screen.-flat KeyLine {
        display: none;
    }
    Screen.-tiny #too-small, Screen.-flat #too-small { display: block; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (40, "-narrow"), (80, "-normal"), (120, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (12, "-short"), (24, "-tall")]  # noqa: RUF012

    OPENING: ClassVar[list[Binding]] = [
        Binding(view.DIGIT, f"open('{view.NAME}')", view.TITLE, show=False, tooltip=view.ABOUT, id=view.NAME)
        for view in VIEWS
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        *OPENING,
        Binding("question_mark", "help", "Help", key_display="?", tooltip="The keys that work here", id="help"),
        Binding("p", "verb('toggle')", "Pause", tooltip="Pause the node, or end the pause", id="pause"),
        Binding("F", "verb('finish')", "Finish", tooltip="Finish what is in hand, then pause", id="finish"),
        Binding(
            "Q", "verb('stop')", "Stop", show=False, tooltip="Finish what is in hand, and stop the node", id="stop"
        ),
        Binding("escape", "back", "Back", show=False, tooltip="Close, clear the filter, or back to the overview"),
        Binding("q", "quit", "Leave", tooltip="Leave this window; the node goes on", id="leave"),
    ]

    def __init__(self, feed: Feed, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.animation_level = "none"  # what moves is drawn many times a second, and over SSH each of them is sent
        self.feed = feed
        self.moment = Moment(clock())
        self._clock = clock
        self._memory = Memory()
        self._opened = VIEWS[0].NAME
        self._heard = clock()
        self._header = Header()
        self._keys = KeyLine(self.OPENING, worth_showing(self.BINDINGS))

    def compose(self) -> ComposeResult:
        """The header, the views, the keys."""
        yield self._header
        with ContentSwitcher(initial=VIEWS[0].NAME):
            for view in VIEWS:
                yield view()
        yield Static("The terminal is too small for tables: 40 × 12 at least.", id="too-small", markup=False)
        yield self._keys

    def on_mount(self) -> None:
        """Begin."""
        self._header.show(self.moment)
        self.action_open(VIEWS[0].NAME)
        self.set_interval(LOOK_EVERY, self._look)
        self.feed.start(self.post_message)

    def on_ready(self) -> None:
        """A cursor that blinks is drawn twice a second."""
        for box in self.query(Input):
            box.cursor_blink = False
        for area in self.query(TextArea):
            area.cursor_blink = False

    @property
    def defect(self) -> Exception | None:
        """What ended the app, when it was neither a person nor that the terminal is another program's by now."""
        return None if in_background() else self._exception

    def _fatal_error(self) -> None:
        """Whoever runs the app says what happened. Textual's own report has strangers' text in it."""
        self._close_messages_no_wait()

    def on_unmount(self) -> None:
        """End."""
        self.feed.stop()

    @property
    def view(self) -> View:
        """The open view."""
        return cast(View, self.query_one(f"#{self.query_one(ContentSwitcher).current}"))

    def on_arrived(self, message: Arrived) -> None:
        """A new snapshot."""
        self._heard = self._clock()
        self._memory.add(message.snapshot)
        self._show(Moment(self._heard, message.snapshot, "", *self._memory.rates_of()))

    def on_gone(self, message: Gone) -> None:
        """The node does not answer any more."""
        self._miss(message.reason, silent=message.silent)

    def _look(self) -> None:
        """A node that hangs sends nothing, and does not hang up either. Whoever started the UI may have been killed."""
        if in_background():
            self.exit()
            return
        silent = self._clock() - self._heard
        if silent > STALE and not self.moment.trouble:
            self._miss(f"The node has said nothing for {silent:.0f} s. Look at its log.", silent=True)

    def _miss(self, reason: str, *, silent: bool) -> None:
        if reason != self.moment.trouble:
            moment = self.moment
            self._show(Moment(self._clock(), moment.snapshot, reason, moment.rates, moment.swarm, silent))

    def _show(self, moment: Moment) -> None:
        self.moment = moment
        self._header.show(moment)
        for view in self.query(f"#{self._opened}"):  # none any more while the app closes
            cast(View, view).show(moment)

    async def ask(self, question: Callable[[Client], T]) -> T | None:
        """As Feed.ask; what the node refuses is told to the user, and gives None."""
        try:
            return await self.feed.ask(question)
        except P2pcapError as error:
            self.say(str(error), bad=True)
            return None

    def say(self, text: str, *, bad: bool = False) -> None:
        """A few words that go away by themselves."""
        self.notify(clean(text), severity="error" if bad else "information", markup=False)

    def action_open(self, name: str) -> None:
        """Open a view."""
        switcher = self.query_one(ContentSwitcher)
        if name != switcher.current:
            self.view.closed()
        switcher.current = self._opened = name
        view = self.view
        view.opened()
        view.show(self.moment)
        self._keys.show(view, worth_showing(*view.key_lists()))
        self.screen.set_focus(view.first_focus())

    async def action_back(self) -> None:
        """Close what is open, else back to the first view."""
        if not self.view.escape() and self.view.NAME != VIEWS[0].NAME:
            self.action_open(VIEWS[0].NAME)

    @work(group="verb")
    async def do(self, verb: verbs.Verb) -> None:
        """Have the node do what the palette names."""
        await verb.do(self)

    def action_help(self) -> None:
        """The keys."""
        from p2pcap_tui.keys import help_lines

        self.push_screen(Details("Keys", help_lines(type(self.view))))

    @work(group="verb")
    async def action_verb(self, name: str) -> None:
        """Have the node do something."""
        await getattr(verbs, name)(self)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every view and verb, then Textual's own."""
        for view in VIEWS:
            yield SystemCommand(f"Open {view.TITLE.lower()}", view.ABOUT, partial(self.action_open, view.NAME))
        for verb in verbs.VERBS:
            yield SystemCommand(verb.title, verb.about, partial(self.do, verb))
        yield from super().get_system_commands(screen)
