"""How long each key takes until its screen is drawn, with ten thousand peers and contributors and a million captions.

The UI runs in this process without a terminal, as in its tests, on a node in another one (benchmarks.tui_node). A key
is drawn when the first thing is drawn for it. A key for which the node sorts or filters a page is shown when the last
thing is drawn, the rows among it; what somebody looks for in a million captions comes when it is found. New snapshots,
which draw too, are held back meanwhile. Of each key the median of ROUNDS counts. The baseline is a bare
Textual app that fills the same screen with another text.
"""

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any

from textual.app import App, ComposeResult
from textual.events import Key
from textual.widgets import Static

from benchmarks.processes import temporary_processes
from benchmarks.report import Lines, at_most
from benchmarks.tui_cost import COLUMNS, LINES, crowded_node
from p2pcap.lasting import spare_what_lasts
from p2pcap.paths import running_node
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.feed import Arrived, SocketFeed
from p2pcap_tui.views import VIEWS

GOAL = 100.0
"""Milliseconds."""

ROUNDS = 3
WINDOW = 0.7
"""Seconds after a key in which whatever is drawn is drawn for it."""

TABLES = ("2", "5")
"""Screens whose rows the node sorts and filters."""

FILTER = "slash"
"""Opens the line for a filter, and asks for nothing."""

ASKING = ("s", "S", "r", FILTER, "7", "escape")
"""Keys that ask for another page: sort, reverse, refresh, and a filter typed and cleared."""

OWN = {
    "3": ("z", "z", "m", "m", "m", "s", "enter", "right", "escape"),
    "4": ("n", "N", "slash", "7", "7", "escape"),
    "7": ("up", "up", "up", "escape"),
}
"""Keys that some screens have beside those."""

MOVING = ("down", "pagedown", "end", "home")

Drawn = dict[str, list[float]]
"""Milliseconds by key."""


class _Timed(App[None]):
    """An app that knows when it drew."""

    drew: tuple[float, ...] = ()

    def _display(self, *arguments: Any) -> None:
        super()._display(*arguments)
        self.drew = (*self.drew, time.perf_counter())

    async def took(self, key: str) -> tuple[float, float]:
        """Milliseconds from the key to the first and the last thing drawn for it; 0 where there is nothing to draw."""
        assert self._driver is not None
        self.drew, pressed = (), time.perf_counter()
        self._driver.process_message(Key(key, key if len(key) == 1 else None))
        await asyncio.sleep(WINDOW)  # the time over which is measured
        first, last = (self.drew[0], self.drew[-1]) if self.drew else (pressed, pressed)
        return 1_000 * (first - pressed), 1_000 * (last - pressed)


class _Ui(_Timed, TerminalUI):
    """The UI, which takes in no more than one snapshot."""

    def on_arrived(self, message: Arrived) -> None:
        if self.moment.snapshot is not None:
            message.prevent_default()  # else the base's own handler is called after this one

    def _look(self) -> None:
        """The node is there."""


class _Bare(_Timed):
    """A screen full of text, and another one after a key."""

    def compose(self) -> ComposeResult:
        yield Static("x" * (COLUMNS * LINES), markup=False)

    def on_key(self, event: Key) -> None:
        text = "x" if self.query_one(Static).visual.plain.startswith("y") else "y"  # type: ignore[attr-defined]
        self.query_one(Static).update(text * (COLUMNS * LINES))


def run() -> Lines:
    """The slowest key until it is drawn, and the slowest page until it is shown."""
    with temporary_processes() as processes:
        _, directory = crowded_node(processes)
        bare = asyncio.run(_bare())
        drawn, shown = asyncio.run(_measured(directory))
    for name, times in (("drawn", drawn), ("shown", shown)):
        slowest = max(times, key=lambda key: times[key])
        yield at_most(f"tui_keys.{name}[{slowest}]", times[slowest], "ms", GOAL, bare)


async def _bare() -> float:
    app = _Bare()
    async with app.run_test(size=(COLUMNS, LINES)):
        await app.took("a")
        return median([(await app.took("a"))[0] for _ in range(ROUNDS)])


async def _measured(directory: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Of each key until it is drawn, and of each that asks for a page until that is shown."""

    def find() -> Path | None:
        node = running_node(directory)
        return node.socket if node else None

    ui, drawn, shown = _Ui(SocketFeed(find)), Drawn(), Drawn()
    spare_what_lasts()  # as the command does
    async with ui.run_test(size=(COLUMNS, LINES)) as pilot:
        while ui.moment.snapshot is None:
            await pilot.pause()
        for _ in range(ROUNDS):
            await _round(ui, drawn, shown)
    return _medians(drawn), _medians(shown)


async def _round(ui: _Ui, drawn: Drawn, shown: Drawn) -> None:
    for view in VIEWS:
        pages = ASKING if view.DIGIT in TABLES else ()
        for key in (view.DIGIT, *MOVING, *OWN.get(view.DIGIT, ()), *pages):
            first, last = await ui.took(key)
            drawn.setdefault(f"{view.DIGIT} {key}", []).append(first)
            if key in pages and key != FILTER:
                shown.setdefault(f"{view.DIGIT} {key}", []).append(last)
        await ui.took("escape")


def _medians(times: Drawn) -> dict[str, float]:
    return {key: median(found) for key, found in times.items()}
