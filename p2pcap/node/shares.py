"""Who keeps which bodies, when not everybody keeps all: rendezvous hashing, so that nobody has to agree on anything.

For each result every storing node has a weight, SHA-256(peer id ‖ result id), and the lowest ones keep its body. Each
node asks that of the storing nodes it has lately seen, itself among them. A node that sees few others thinks it is
needed for more, never for less: the COPIES best of all nodes are among the COPIES best of whatever part they see. And a
node that goes moves only what it kept.

Always holds: a body's SURE best nodes drop it in no case, and nobody drops it of whom fewer than SURE better ones are
connected. Pure: time is passed in.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, NamedTuple

StoreRole = Literal["full", "share", "archive"]
"""full: keeps the body of every result that counts, up to a quota, and beyond it a share; share: keeps a share;
archive: keeps every body that it can get, also of results that count for nothing, without a quota."""

STORING: frozenset[str] = frozenset(("full", "share", "archive"))

COPIES = 5
"""Nodes that keep a body."""

SURE = 2
"""Nodes that keep a body even when they have no room for it."""

SEEN_FOR = 600.0
"""Seconds for which a node that is not connected any more counts as one that stores."""

MAX_SEEN = 256
"""Nodes that are remembered; of more the one that was seen longest ago is forgotten."""


DISK_BYTES = 2
"""Bytes that a byte of rows (`Result.raw`) takes in the database: in its body, once more as text that can be queried,
and in the tables around it. Measured with captions of thirty words."""


class Seen:
    """The storing nodes that were connected in the last SEEN_FOR seconds."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._connected: frozenset[str] = frozenset()

    def note(self, connected: Mapping[str, str], now: float) -> None:
        """These peers are connected, and say this of what they store (`Status.store`)."""
        self._connected = frozenset(peer for peer, store in connected.items() if store in STORING)
        for peer in connected:
            self._at.pop(peer, None)
        self._at |= dict.fromkeys(self._connected, now)  # at the end, so the order is that of time
        old = len(self._at) - MAX_SEEN
        for number, (peer, at) in enumerate(list(self._at.items())):
            if number < old or at < now - SEEN_FOR:
                del self._at[peer]

    def nodes(self) -> dict[str, bool]:
        """They, each with whether it is connected."""
        return {peer: peer in self._connected for peer in self._at}


class Place(NamedTuple):
    """Where this node stands for a body: storing nodes before it, and how many of these are connected."""

    ahead: int
    here: int


class Ranks:
    """The weights of `me` and of other storing nodes, which are given with whether they are connected."""

    def __init__(self, me: str, others: Mapping[str, bool]) -> None:
        self._me = hashlib.sha256(me.encode())
        self._others = [(hashlib.sha256(peer.encode()), here) for peer, here in others.items() if peer != me]

    def place(self, result: bytes) -> Place:
        """This node's place for the body of `result`. It is not counted on beyond COPIES nodes that are connected."""
        mine, ahead, here = _weight(self._me, result), 0, 0
        for peer, connected in self._others:
            if _weight(peer, result) < mine:
                ahead += 1
                here += connected
                if here >= COPIES:
                    break
        return Place(ahead, here)


def _weight(peer: "hashlib._Hash", result: bytes) -> bytes:
    both = peer.copy()
    both.update(result)
    return both.digest()


def may_drop(place: Place, crowded: bool) -> bool:
    """Whether a node may drop a body that is not its own; `crowded`: it has no room for its share."""
    return place.ahead >= (SURE if crowded else COPIES) and place.here >= SURE


def takes_back(place: Place, roomy: bool) -> bool:
    """Whether a node gets a body again that it dropped; `roomy`: it has room for more."""
    return place.ahead < (COPIES if roomy else SURE)


def role_in_force(role: StoreRole, needed: int, cap: int) -> StoreRole:
    """What a node that was told to be `role` is, when the bodies of all results that count need so many bytes."""
    return "share" if role == "full" and needed > cap else role
