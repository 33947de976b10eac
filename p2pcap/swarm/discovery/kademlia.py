"""Kademlia's routing table: whom to ask about a key (Maymounkov and Mazières, 2002; libp2p's kad-dht spec).

Pure. A key's place, and a node's, is the SHA-256 of its bytes; how far two places are apart is their XOR. The table
knows many nodes near our own place and a few everywhere else: one bucket for each length of the shared prefix.

Always holds: at most BUCKET contacts a bucket and BUCKETS buckets; whoever is in a full bucket and answers stays there,
so a flood of new nodes drives out nobody; of one network at most PER_NETWORK are in a bucket.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import base58

from p2pcap.swarm.addresses import Endpoint
from p2pcap.swarm.nat.portmap import is_inside
from p2pcap.swarm.trimming import shared

BUCKET = 10
BUCKETS = 32
"""Nodes that share more bits with us than that lie together in the last bucket; there are not 2^32 nodes."""
MAX_ADDRESSES = 4
PER_NETWORK = 2
_NETWORK = {4: 24, 6: 48}
STALE_SECONDS = 900.0
"""A contact not heard of for so long is asked whether it is still there."""
GIVE_UP = 2
"""Questions in a row without an answer after which a contact is dropped."""


def place(key: bytes) -> int:
    """Where a key lies, as a number of 256 bits."""
    return int.from_bytes(hashlib.sha256(key).digest())


@dataclass(frozen=True)
class Contact:
    """A node that serves the table: its peer id and transport addresses, the best first."""

    peer: str
    transports: tuple[str, ...]
    place: int = field(repr=False, compare=False)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where to dial it."""
        return [Endpoint(transport, self.peer) for transport in self.transports]


def contact_at(peer: str, endpoints: Iterable[Endpoint], relayed: bool = False) -> Contact | None:
    """A contact of those endpoints that are `peer`'s, those through relays only if `relayed`; None if there is none."""
    own = dict.fromkeys(end.transport for end in endpoints if end.peer == peer and (relayed or end.relay is None))
    return Contact(peer, tuple(own)[:MAX_ADDRESSES], place_of(peer)) if own else None


def place_of(peer: str) -> int:
    """Where a node lies. Raises ValueError for what is no peer id."""
    return place(bytes(base58.b58decode(peer)))


def nearest(contacts: Iterable[Contact], target: int, count: int) -> list[Contact]:
    """The `count` contacts nearest to a place, the nearest first."""
    return sorted(contacts, key=lambda one: one.place ^ target)[:count]


def tellable(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Which of a node's own addresses to tell the world: those of the internet; the others when there are none."""
    return [end for end in endpoints if not _local(end)] or list(endpoints)


def _local(endpoint: Endpoint) -> bool:
    _, family, host, _ = endpoint.transport.split("/", 3)
    return (family == "ip4" and is_inside(host)) or (family == "ip6" and host.startswith(("fe8", "fc", "fd", "::1")))


def network_of(contact: Contact) -> str | None:
    """The part of the internet a contact's first address lies in; None for a local or named one."""
    first = contact.endpoints[0]
    host = first.transport.split("/")[2]
    return None if _local(first) or first.transport.startswith("/dns") else shared(host, _NETWORK)


@dataclass
class _Entry:
    contact: Contact
    heard: float
    failures: int = 0


class Table:
    """The contacts one node knows; times in seconds of any one clock."""

    def __init__(self, own: str) -> None:
        self.place = place_of(own)
        self._buckets: list[dict[str, _Entry]] = [{} for _ in range(BUCKETS)]

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def __contains__(self, peer: str) -> bool:
        return any(peer in bucket for bucket in self._buckets)

    def heard(self, contact: Contact, now: float, proven: bool = True) -> bool:
        """This node answered, or asked; whether it is in the table now.

        Its addresses replace those known when they are `proven`: they led to it, or it named them itself.
        """
        if contact.place == self.place:
            return False
        bucket = self._bucket(contact)
        if contact.peer in bucket:
            bucket[contact.peer] = _Entry(contact if proven else bucket[contact.peer].contact, now)
        elif self._has_room(bucket, contact):
            bucket[contact.peer] = _Entry(contact, now)
        return contact.peer in bucket

    def failed(self, peer: str) -> None:
        """This node did not answer, or could not be reached."""
        for bucket in self._buckets:
            if peer in bucket:
                bucket[peer].failures += 1
                if bucket[peer].failures >= GIVE_UP:
                    del bucket[peer]

    def nearest(self, target: int, count: int = BUCKET) -> list[Contact]:
        """The contacts nearest to a place that answered when last asked."""
        entries = (entry for bucket in self._buckets for entry in bucket.values() if not entry.failures)
        return nearest((entry.contact for entry in entries), target, count)

    def stale(self, now: float) -> list[Contact]:
        """Who is to be asked whether it is still there."""
        entries = (entry for bucket in self._buckets for entry in bucket.values())
        return [entry.contact for entry in entries if entry.failures or now - entry.heard > STALE_SECONDS]

    def _bucket(self, contact: Contact) -> dict[str, _Entry]:
        shared_bits = 256 - (contact.place ^ self.place).bit_length()
        return self._buckets[min(shared_bits, BUCKETS - 1)]

    def _has_room(self, bucket: dict[str, _Entry], contact: Contact) -> bool:
        network = network_of(contact)
        neighbours = sum(network_of(entry.contact) == network for entry in bucket.values()) if network else 0
        if neighbours >= PER_NETWORK:
            return False
        if len(bucket) < BUCKET:
            return True
        worst = max(bucket.values(), key=lambda entry: entry.failures)
        if not worst.failures:
            return False
        del bucket[worst.contact.peer]
        return True
