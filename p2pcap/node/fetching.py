"""What a node gets from others by hash, besides images: item lists, plans, files of a model.

Whoever serves it need not be trusted: what arrives is checked against the hash that was asked for. What no connected
peer has is asked for again when a peer comes or after RETRY seconds; nothing gives up while the node runs.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing

import trio

from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.project.items import Item, ItemList
from p2pcap.project.opened import open_list
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutItems
from p2pcap.swarm.swarm import Swarm

RETRY = 2.0
"""Seconds until peers are asked again for what nobody had."""

ITEM_LISTS = 16
"""Item lists kept in memory."""

BATCH = 64
"""Hashes asked for at a time (the protocol's limit)."""


def hash_holds(hash_: bytes, data: bytes) -> bool:
    """Whether `data` has the SHA-256 `hash_`."""
    return hashlib.sha256(data).digest() == hash_


async def fetch_one(swarm: Swarm, hash_: bytes, verify: Callable[[bytes, bytes], bool], cap: int) -> bytes | None:
    """The blob that `verify` accepts for `hash_`, from any connected peer; None when nobody has it now."""
    async with aclosing(swarm.fetch("blob", [hash_], None, verify, cap)) as arriving:
        async for _, data in arriving:
            return data
    return None


class Fetching:
    """Item lists and blobs of one project, from the store or the swarm."""

    def __init__(self, ledger: Ledger, store: Store, swarm: Swarm, peers_changed: Change) -> None:
        self._ledger = ledger
        self._store = store
        self._swarm = swarm
        self._peers_changed = peers_changed
        self._lists: OrderedDict[int, ItemList] = OrderedDict()

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The verified items of `chunk`."""
        return (await self.listing(chunk)).items

    async def listing(self, chunk: int) -> ItemList:
        """The verified item list of `chunk`; waits until some peer hands it over."""
        held = self._lists.get(chunk) or await self._get(chunk)
        self._lists[chunk] = held
        self._lists.move_to_end(chunk)
        while len(self._lists) > ITEM_LISTS:
            self._lists.popitem(last=False)
        return held

    async def _get(self, chunk: int) -> ItemList:
        row = self._ledger.project.chunks[chunk]
        data = await self._store.blob(row.items)
        if data is not None and await self._store.has_items(chunk):
            return open_list(data, row)
        data = data or await self.blob(row.items, row.length)
        found = open_list(data, row)
        await self._store.commit(PutBlob(row.items, data), PutItems(chunk, found.items))
        return found

    async def blob(self, hash_: bytes, length: int) -> bytes:
        """The blob with this hash and at most this many bytes; waits until a peer hands it over."""
        while True:
            data = await fetch_one(self._swarm, hash_, hash_holds, length)
            if data is not None:
                return data
            await self._pause()

    async def now(self, hash_: bytes, length: int) -> bytes | None:
        """The blob with this hash, of at most this many bytes, if it is here or some connected peer has it now."""
        held = await self._store.blob(hash_)
        return held if held is not None else await fetch_one(self._swarm, hash_, hash_holds, length)

    async def _pause(self) -> None:
        with trio.move_on_after(RETRY):
            await self._peers_changed.wait()
