"""Who keeps which bodies, when not everybody keeps all: rendezvous hashing, so that nobody has to agree on anything.

For each body every storing node has a weight, SHA-256(peer id ‖ root of the rows), and the lowest ones keep it. Each
node asks that of the storing nodes it has lately seen, itself among them. A node that sees few others thinks it is
needed for more, never for less: the COPIES best of all nodes are among the COPIES best of whatever part they see. And a
node that goes moves only what it kept.

Who stores is what nodes say of themselves, so a place is never enough to drop a body (p2pcap.node.proofs). But the
order is one for all: of the honest nodes that really hold a body the SURE best find no SURE better ones that show it.
And it goes by the root, so equal bodies of two results have one order, and cannot be each other's excuse.

Always holds: a body's SURE best nodes drop it in no case, and nobody drops it of whom fewer than SURE better ones are
connected; who hands over nothing of what it is to keep is counted no more for a while. Pure: time is passed in.
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
"""Nodes that are remembered; of more the one that was seen longest ago is forgotten. As many are doubted."""

DOUBTED_AFTER = 8
"""Bodies in a row that a node was to keep and did not hand over, until it is doubted: of a few a node that sees better
ones elsewhere may have dropped each with good reason."""

DOUBTED_FOR = 3_600.0
"""Seconds for which a node that is doubted does not count as one that stores. It may be new and still fetching, so
nothing else is held against it."""

DISK_BYTES = 2
"""Bytes that a byte of rows (`Result.raw`) takes in the database: in its body, once more as text that can be queried,
and in the tables around it. Measured with captions of thirty words."""


class Seen:
    """The storing nodes that were connected in the last SEEN_FOR seconds, without those that are doubted."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._connected: frozenset[str] = frozenset()
        self._lacked: dict[str, int] = {}
        self._doubted: dict[str, float] = {}

    def note(self, connected: Mapping[str, str], now: float) -> None:
        """These peers are connected, and say this of what they store (`Status.store`)."""
        self._doubted = {peer: until for peer, until in self._doubted.items() if now < until}
        storing = (peer for peer, store in connected.items() if store in STORING)
        self._connected = frozenset(peer for peer in storing if peer not in self._doubted)
        for peer in connected:
            self._at.pop(peer, None)
        self._at |= dict.fromkeys(self._connected, now)  # at the end, so the order is that of time
        old = len(self._at) - MAX_SEEN
        for number, (peer, at) in enumerate(list(self._at.items())):
            if number < old or at < now - SEEN_FOR:
                del self._at[peer]
        self._lacked = {peer: count for peer, count in self._lacked.items() if peer in self._at}

    def asked(self, peer: str, bodies: int, had: int, now: float) -> None:
        """`peer` was asked for so many `bodies` that it is to keep, and `had` so many of them."""
        self._lacked[peer] = 0 if had else self._lacked.get(peer, 0) + bodies
        if self._lacked[peer] < DOUBTED_AFTER:
            return
        del self._lacked[peer]
        self._at.pop(peer, None)
        self._connected -= {peer}
        self._doubted[peer] = now + DOUBTED_FOR
        if len(self._doubted) > MAX_SEEN:
            del self._doubted[next(iter(self._doubted))]

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
        self._others = [(peer, hashlib.sha256(peer.encode()), here) for peer, here in others.items() if peer != me]

    def place(self, root: bytes) -> Place:
        """This node's place for the body with that root. It is not counted on beyond COPIES that are connected."""
        mine, ahead, here = _weight(self._me, root), 0, 0
        for _, peer, connected in self._others:
            if _weight(peer, root) < mine:
                ahead += 1
                here += connected
                if here >= COPIES:
                    break
        return Place(ahead, here)

    def better(self, root: bytes) -> list[str]:
        """The best of the connected nodes for that body, at most COPIES, the best first; none that is behind `me`."""
        mine = _weight(self._me, root)
        weighed = [(_weight(peer, root), name) for name, peer, connected in self._others if connected]
        return [name for weight, name in sorted(weighed)[:COPIES] if weight < mine]


def _weight(peer: "hashlib._Hash", root: bytes) -> bytes:
    both = peer.copy()
    both.update(root)
    return both.digest()


def may_drop(place: Place, crowded: bool) -> bool:
    """Whether a node may drop a body that is not its own once others show it; `crowded`: it has no room for more."""
    return place.ahead >= (SURE if crowded else COPIES) and place.here >= SURE


def takes_back(place: Place, roomy: bool) -> bool:
    """Whether a node gets a body again that it dropped; `roomy`: it has room for more."""
    return place.ahead < (COPIES if roomy else SURE)


def role_in_force(role: StoreRole, needed: int, cap: int) -> StoreRole:
    """What a node that was told to be `role` is, when the bodies of all results that count need so many bytes."""
    return "share" if role == "full" and needed > cap else role
