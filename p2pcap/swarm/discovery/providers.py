"""Which nodes said that they take part in which project: what this node keeps of the hash table for others.

Pure. A provider is remembered by the network its connection came from, so that somebody with many peer ids and few
addresses cannot crowd the others out of a key.

Always holds: at most MAX_RECORDS records, MAX_PER_KEY of a key, MAX_PER_PEER of a peer; none older than KEEP_SECONDS;
when there are too many, the keys farthest from our own place go first.
"""

import random
from collections import Counter
from dataclasses import dataclass

from p2pcap.swarm.discovery.kademlia import Contact, place

MAX_RECORDS = 2_048
MAX_PER_KEY = 40
MAX_PER_PEER = 8
ANSWERED = 20
"""Providers told in one answer, chosen by lot."""
KEEP_SECONDS = 3 * 3_600.0
"""Three times as long as providers wait until they say it again."""


@dataclass(frozen=True)
class _Record:
    contact: Contact
    network: str
    told: float


class Providers:
    """The records of one node, whose place in the hash table is `own`; times in seconds of any one clock."""

    def __init__(self, own: int) -> None:
        self._own = own
        self._keys: dict[bytes, dict[str, _Record]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def add(self, key: bytes, contact: Contact, network: str, now: float) -> None:
        """`contact` says, over a connection from `network`, that it provides `key`."""
        self._expire(now)
        held = self._keys.get(key, {})
        if contact.peer not in held:
            if sum(contact.peer in records for records in self._keys.values()) >= MAX_PER_PEER:
                return
            if len(held) >= MAX_PER_KEY and not _make_room(held, network):
                return
        self._keys.setdefault(key, held)[contact.peer] = _Record(contact, network, now)
        while len(self) > MAX_RECORDS:
            del self._keys[max(self._keys, key=lambda other: place(other) ^ self._own)]

    def of(self, key: bytes, now: float) -> list[Contact]:
        """Some of the providers of `key`."""
        self._expire(now)
        held = [record.contact for record in self._keys.get(key, {}).values()]
        return random.sample(held, min(ANSWERED, len(held)))

    def _expire(self, now: float) -> None:
        for key, records in list(self._keys.items()):
            for peer in [peer for peer, record in records.items() if now - record.told > KEEP_SECONDS]:
                del records[peer]
            if not records:
                del self._keys[key]


def _make_room(held: dict[str, _Record], newcomer: str) -> bool:
    """Drop the oldest record of the network that has the most, unless that is the newcomer's own."""
    crowds = Counter(record.network for record in held.values())
    network, size = crowds.most_common(1)[0]
    if size <= max(1, crowds[newcomer] + 1):
        return False
    oldest = min((record for record in held.values() if record.network == network), key=lambda record: record.told)
    del held[oldest.contact.peer]
    return True
