"""What people should ask the maintainer about: contradictions, a ban, a silent coordinator, expired signatures.

Always holds: what is warned of is worked out anew from the ledger and the time, so it ends as soon as it is not true.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
import trio

from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.seams import Clock
from p2pcap.project.opened import ends_at, expires_at

LOOK_EVERY = 60.0
"""Seconds after which the time alone may have made something true."""

log = structlog.get_logger()


def warnings(ledger: Ledger, me: bytes, refused: str, now: float) -> tuple[str, ...]:
    """What is to be warned of at `now`, where `me` is this node's key; `refused` says why checkpoints are not taken in,
    or nothing."""
    said = [f"two {kind}s of number {number} contradict each other" for kind, number in sorted(ledger.forks)]
    if (ban := ledger.rulings.ban(me)) is not None:
        why = ban.reason or "no reason given"
        said.append(f"the maintainer has banned this node ({why}): what it does counts no more, so it does nothing")
    if refused:
        said.append(refused)
    if ledger.stamp is not None and ledger.stamp.expires < now:
        said.append(
            "the coordinator has not been heard of for days: what is here may be out of date, and nobody new is let in"
        )
    return (*said, *_expired(ledger, now))


def _expired(ledger: Ledger, now: float) -> list[str]:
    expired, end = expires_at(ledger.project), ends_at(ledger.project)
    if now <= expired:
        return []
    if now <= end:
        return [
            f"the project's signatures have expired on {_day(expired)}: nobody can join any more, and nothing is "
            f"captioned after {_day(end)}"
        ]
    return [
        f"the project's signatures have expired on {_day(expired)}: nothing is captioned here until it is signed "
        "again; what is held stays, and can be queried and exported"
    ]


def _day(seconds: int) -> str:
    """A time that has come, or soon will."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


async def tell(
    find: Callable[[float], tuple[str, ...]], change: Change, clock: Clock, say: Callable[[str], None]
) -> None:
    """Say each warning that `find` gives for a time, once as long as it is true."""
    told: tuple[str, ...] = ()
    while True:
        found = find(clock())
        for warning in found:
            if warning not in told:
                log.warning("ask the maintainer", warning=warning)
                say(f"warning: {warning}; ask the maintainer")
        told = found
        with trio.move_on_after(LOOK_EVERY):
            await change.wait()
