"""What a node gets from others by hash, besides images: item lists, plans, files of a model.

Whoever serves it need not be trusted: what arrives is checked against the hash that was asked for. What no connected
peer has is asked for again when a peer comes or after RETRY seconds; nothing gives up while the node runs.

Always holds: a list is fetched and decoded by one task at a time, and the lists in memory are those last asked for.
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
from p2pcap.project.records import Chunk
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutItems
from p2pcap.swarm.swarm import Swarm

RETRY = 2.0
"""Seconds until peers are asked again for what nobody had."""

KEPT = 32 * 1024 * 1024
"""Bytes of the item lists kept in memory, as blobs. Decoded, they take two to five times as many, and nine times where
an image has 32 short fields (measured)."""

INLINE = 64 * 1024
"""Bytes of an item list that is decoded where it is asked for: some 10 ms, and simulated time, which would run on while
a thread works, stands still. A large list takes up to two seconds, and so a thread."""

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
        self._kept = 0
        self._coming: dict[int, trio.Event] = {}
        # One list at a time: more threads would not be faster, as Python runs one of them, and hold more memory.
        self._decoding = trio.CapacityLimiter(1)

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The verified items of `chunk`."""
        return (await self.listing(chunk)).items

    async def listing(self, chunk: int) -> ItemList:
        """The verified item list of `chunk`; waits until some peer hands it over."""
        while chunk not in self._lists and chunk in self._coming:
            await self._coming[chunk].wait()
        if chunk not in self._lists:
            await self._bring(chunk)
        self._lists.move_to_end(chunk)
        return self._lists[chunk]

    async def _bring(self, chunk: int) -> None:
        """Get the list of `chunk` into memory, and the oldest ones out of it that have no room beside it. Who waits for
        it meanwhile looks again, also when this task failed or was cancelled."""
        self._coming[chunk] = trio.Event()
        try:
            self._lists[chunk] = await self._get(chunk)
        finally:
            self._coming.pop(chunk).set()
        self._kept += self._length(chunk)
        while self._kept > KEPT and len(self._lists) > 1:
            oldest, _ = self._lists.popitem(last=False)
            self._kept -= self._length(oldest)

    def _length(self, chunk: int) -> int:
        return self._ledger.project.chunks[chunk].length

    async def _get(self, chunk: int) -> ItemList:
        row = self._ledger.project.chunks[chunk]
        data = await self._store.blob(row.items)
        if data is not None and await self._store.has_items(chunk):
            return await self._open(data, row)
        data = data or await self.blob(row.items, row.length)
        found = await self._open(data, row)
        await self._store.commit(PutBlob(row.items, data), PutItems.of(chunk, found))
        return found

    async def _open(self, data: bytes, row: Chunk) -> ItemList:
        if len(data) <= INLINE:
            return open_list(data, row)
        return await trio.to_thread.run_sync(open_list, data, row, abandon_on_cancel=True, limiter=self._decoding)

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
