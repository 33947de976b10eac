"""Pages of what can be long, peers and contributors: sorted and filtered here, cut to what somebody looks at.

A front end that shows a table asks for a page of it now and then; the snapshots it subscribes to name the first few
only. Always holds: only the rows of the page are made; to filter ten thousand and to sort them takes milliseconds.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import inf
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from p2pcap.errors import ConfigError
from p2pcap.identity import public_of
from p2pcap.ledger.trust import Trust
from p2pcap.node.snapshot import ContributorInfo, ContributorPage, PeerInfo, PeerPage, StandingInfo
from p2pcap.store.reads import Contribution
from p2pcap.swarm.links import PeerInfo as Peer

MAX_PAGE = 1_000
"""Rows of a page at most."""

MAX_SOUGHT = 200

REMEMBERED_KEYS = 20_000
"""Peer ids whose keys are remembered: to decode ten thousand of them takes a second."""

T = TypeVar("T")


class PageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page: the first `most` rows `of` a table whose name or peer id contains `sought`, in the order of `sort`,
    the greatest first when `down`."""

    of: Literal["peers", "contributors"]
    sort: Annotated[str, msgspec.Meta(max_length=20)] = ""
    down: bool = False
    sought: Annotated[str, msgspec.Meta(max_length=MAX_SOUGHT)] = ""
    most: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 500


PEER_ORDERS: dict[str, Callable[[Peer], Any]] = {
    "peer": lambda peer: peer.peer_id,
    "name": lambda peer: peer.status.name.casefold() if peer.status else "",
    "role": lambda peer: peer.status.role if peer.status else "",
    "engine": lambda peer: bool(peer.status and peer.status.engine_ready),
    "way": lambda peer: ("relayed " if peer.relayed else "direct ") + peer.direction,
    "rtt": lambda peer: inf if peer.rtt is None else peer.rtt,
    "since": lambda peer: peer.connected_since,
    "score": lambda peer: peer.score,
    "sent": lambda peer: peer.sent,
    "received": lambda peer: peer.received,
}
"""No order makes a tuple for each peer: ten thousand of them set off a garbage collection of everything the node holds,
which takes a fifth of a second with a million captions."""

CONTRIBUTION_ORDERS: dict[str, Callable[[Contribution], Any]] = {
    "peer": lambda one: one.peer_id,
    "name": lambda one: one.name.casefold(),
    "rows": lambda one: one.rows,
    "errors": lambda one: one.errors,
}

STANDING_ORDERS: dict[str, Callable[[Trust, bytes], int]] = {
    "right": lambda trust, author: trust.tally(author)[0],
    "wrong": lambda trust, author: trust.tally(author)[1],
    "unchecked": Trust.unchecked,
    "tier": Trust.tier,
}
"""What an author is sorted by: a part of his standing, since the whole of ten thousand takes too long."""


def peer_page(peers: Sequence[Peer], asked: PageRequest) -> PeerPage:
    """A page of the connected peers. Raises ConfigError for an order that there is not."""
    found = _matching(peers, asked.sought, lambda peer: (peer.status.name if peer.status else "", peer.peer_id))
    rows = _first(found, asked, PEER_ORDERS)
    return PeerPage(len(peers), len(found), tuple(map(peer_info, rows)))


def contributor_page(contributions: Sequence[Contribution], trust: Trust, asked: PageRequest) -> ContributorPage:
    """A page of the contributors. Raises ConfigError for an order that there is not."""
    found = _matching(contributions, asked.sought, lambda one: (one.name, one.peer_id))
    orders = CONTRIBUTION_ORDERS | {
        name: lambda one, order=order: order(trust, key_of(one.peer_id)) for name, order in STANDING_ORDERS.items()
    }
    rows = _first(found, asked, orders)
    return ContributorPage(len(contributions), len(found), contributor_infos(rows, trust))


def _matching(entries: Sequence[T], sought: str, texts: Callable[[T], Iterable[str]]) -> Sequence[T]:
    if not sought:
        return entries
    wanted = sought.casefold()
    return [entry for entry in entries if any(wanted in text.casefold() for text in texts(entry))]


def _first(entries: Sequence[T], asked: PageRequest, orders: dict[str, Callable[[T], Any]]) -> Sequence[T]:
    if not asked.sort:
        return entries[: asked.most]
    order = orders.get(asked.sort)
    if order is None:
        raise ConfigError(f"{asked.of} are not sorted by {asked.sort!r}. Sort by one of: {', '.join(orders)}")
    return sorted(entries, key=order, reverse=asked.down)[: asked.most]


def peer_info(peer: Peer) -> PeerInfo:
    """A peer as a snapshot shows it."""
    return PeerInfo(
        peer_id=peer.peer_id,
        address=peer.addresses[0] if peer.addresses else "",
        name=peer.status.name if peer.status else "",
        role=peer.status.role if peer.status else "",
        engine_ready=bool(peer.status and peer.status.engine_ready),
        since=peer.connected_since,
        rtt=peer.rtt,
        direction=peer.direction,
        relayed=peer.relayed,
        score=round(peer.score, 1) + 0.0,
        sent=peer.sent,
        received=peer.received,
    )


def contributor_infos(contributions: Iterable[Contribution], trust: Trust) -> tuple[ContributorInfo, ...]:
    """Contributors as a snapshot shows them."""
    return tuple(
        ContributorInfo(c.peer_id, c.name, c.rows, c.errors, standing_info(trust, key_of(c.peer_id)))
        for c in contributions
    )


def standing_info(trust: Trust, author: bytes) -> StandingInfo:
    """How an author stands, as a snapshot shows it."""
    standing = trust.standing(author)
    return StandingInfo(
        standing.captions,
        standing.checked,
        standing.passed,
        standing.failed,
        standing.unsure,
        standing.unchecked,
        standing.tier,
        standing.quarantined,
        standing.why,
    )


key_of = lru_cache(REMEMBERED_KEYS)(public_of)
"""The public key inside a peer id."""
