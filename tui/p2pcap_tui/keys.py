"""The table of keys, out of the bindings themselves: for the help in the UI and for docs/tui.md.

`python -m p2pcap_tui.keys` writes it into that page; a test compares.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from textual.binding import Binding, BindingType

from p2pcap_tui.app import TerminalUI
from p2pcap_tui.dialogs import Confirm
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views import VIEWS
from p2pcap_tui.views.base import View
from p2pcap_tui.words import Line

SHOWN = {
    "slash": "/",
    "question_mark": "?",
    "escape": "Esc",
    "enter": "Enter",
    "space": "Space",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "home": "Home",
    "end": "End",
    "tab": "Tab",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}
"""How keys are written that have a name."""

PAGE = Path("docs/tui.md")
START, END = "<!-- keys: generated -->", "<!-- end of keys -->"


class Key(NamedTuple):
    """A key, or several that do the same, and what they do."""

    keys: str
    what: str


def keys_of(bindings: Iterable[BindingType]) -> Iterator[Key]:
    """The keys of some bindings."""
    for binding in bindings:
        if isinstance(binding, Binding) and not binding.system:
            yield Key(", ".join(map(_shown, binding.key.split(","))), binding.tooltip or binding.description)


def _shown(key: str) -> str:
    *held, last = key.strip().split("+")
    return "+".join([*map(str.capitalize, held), SHOWN.get(last, last)])


def everywhere() -> list[Key]:
    """The keys that work on every screen."""
    return list(keys_of(TerminalUI.BINDINGS))


def view_keys(view: type[View]) -> list[Key]:
    """Those of one screen, its filter's among them."""
    return [key for bindings in view.key_lists() for key in keys_of(bindings)]


def in_tables() -> list[Key]:
    """Those of every table."""
    return list(keys_of(RowsTable.BINDINGS))


def help_lines(view: type[View]) -> list[Line]:
    """The help on one screen: its own keys first."""
    parts = [(f"{view.TITLE}: {view.ABOUT}", view_keys(view)), ("In tables", in_tables()), ("Everywhere", everywhere())]
    lines: list[Line] = []
    for title, keys in parts:
        lines += [[(title, "strong")], *[[(f"  {key.keys:<14}", "accent"), (key.what, "")] for key in keys], []]
    return lines[:-1]


def table() -> str:
    """The keys in Markdown."""
    parts = [("Everywhere", everywhere()), ("In tables", in_tables())]
    parts += [(view.TITLE, keys) for view in VIEWS if (keys := view_keys(view))]
    parts += [("A question", list(keys_of(Confirm.BINDINGS)))]
    return "\n".join(line for title, keys in parts for line in _section(title, keys))


def _section(title: str, keys: Iterable[Key]) -> list[str]:
    rows = [f"| {' '.join(f'`{key}`' for key in one.keys.split(', '))} | {one.what} |" for one in keys]
    return [f"### {title}", "", "| key | |", "|---|---|", *rows, ""]


def written(page: str) -> str:
    """The page with the table as it is now."""
    return re.sub(f"{START}.*{END}", lambda _: f"{START}\n\n{table()}\n{END}", page, flags=re.DOTALL)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(written(text), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
