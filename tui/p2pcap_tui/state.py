"""What a node is doing, in a glyph, a word and a style: never by colour alone."""

from typing import NamedTuple

from p2pcap.cli.amounts import duration
from p2pcap_tui.moment import Moment


class State(NamedTuple):
    """`why` says more in words, where there is more to say."""

    glyph: str
    word: str
    style: str
    why: str = ""


STATES = {
    "starting": ("◌", "warn"),
    "working": ("●", "good"),
    "idle": ("◍", ""),
    "finishing": ("◐", "warn"),
    "paused": ("⏸", "warn"),
    "finished": ("✓", "good"),
    "observing": ("◇", ""),
    "serving": ("◆", "good"),
    "stopping": ("◑", "warn"),
}
"""What a node tells of its state (p2pcap.node.state), with the glyph and style of each."""

ALONE = ("starting", "stopping")
"""States that say more than that nobody is connected."""


def state_of(moment: Moment) -> State:
    """The node's state at that moment."""
    if moment.trouble and moment.silent:
        return State("✗", "no answer", "bad", moment.trouble)
    if moment.trouble:
        return State("✗", "not running" if moment.snapshot else "not connected", "bad", moment.trouble)
    if moment.snapshot is None:
        return State("◌", "connecting", "warn")
    node = moment.snapshot.node
    glyph, style = STATES.get(node.state, ("●", ""))
    why = f"{node.state_why}{_until(node.paused_until, moment.now)}"
    if not moment.snapshot.connected and node.role != "coordinator" and node.state not in ALONE:
        return State("○", f"{node.state}, no peers", "warn", why)
    return State(glyph, node.state, style, why)


def is_paused(moment: Moment) -> bool:
    """Whether there is a pause that can be ended."""
    return moment.snapshot is not None and moment.snapshot.node.state in ("paused", "finishing")


def _until(end: float | None, now: float) -> str:
    return f"; goes on in {duration(end - now)}" if end is not None else ""
