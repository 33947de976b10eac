"""Text on the screen: spans with a style's name, numbers in people's form, bars and sparklines.

What strangers chose (names, captions, addresses, log lines) is in these spans too. Always holds: whatever reaches the
terminal went through `painted` here or through p2pcap_tui.rows_table, both of which clean it, and neither of which
reads markup.
"""

from collections.abc import Sequence
from textwrap import wrap

from textual.content import Content

from p2pcap.cli.output import clean

Span = tuple[str, str]
"""A text, and the name of its style: a key of STYLES."""

Line = Sequence[Span]

STYLES = {
    "": "",
    "strong": "bold",
    "good": "$text-success",
    "warn": "$text-warning",
    "bad": "bold $text-error",
    "dim": "$foreground-muted",
    "accent": "$text-accent",
}
"""Names of styles and what Textual's themes call them. None of them is the only sign of a state."""

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"


def painted(lines: Sequence[Line]) -> Content:
    """The lines as Textual shows them: clean, one below the other."""
    parts: list[str | tuple[str, str]] = []
    for number, line in enumerate(lines):
        if number:
            parts.append("\n")
        parts += [(clean(text), STYLES[style]) for text, style in line]
    return Content.assemble(*parts)


def wrapped(text: str, width: int, style: str = "") -> list[Line]:
    """A text as lines of at most `width` columns, each a column from the edge."""
    return [[(f" {part}", style)] for part in wrap(clean(text), max(8, width - 2))]


def number(count: float) -> str:
    """A whole number in groups of three: "1 921 004"."""
    return f"{count:,.0f}".replace(",", " ")


def share(part: float, whole: float) -> str:
    """How much of it, in percent: "38.4 %"; never 100 before all is done."""
    percent = 100 * part / whole if whole else 0.0
    return f"{min(percent, 99.9) if part < whole else percent:.1f} %"


def bar(part: float, whole: float, width: int) -> str:
    """A bar of `width` columns, filled in eighths of one."""
    eighths = max(0, min(8 * width, int(8 * width * part / whole))) if whole else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width, "░")


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as columns of eight heights, the greatest of them the highest."""
    last = values[-width:] if width > 0 else ()
    top = max(last, default=0.0)
    if top <= 0:
        return LEVELS[0] * len(last)
    return "".join(LEVELS[min(7, int(8 * max(0.0, value) / top))] for value in last)


def short(peer_id: str) -> str:
    """The end of a peer id, by which people tell them apart: all of one kind begin alike."""
    return peer_id if len(peer_id) <= 10 else f"…{peer_id[-8:]}"
