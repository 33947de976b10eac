"""Everything a node gets from others by hash: item lists, images, files of a model.

Whoever serves it need not be trusted: what arrives is checked against the hash that was asked for. What no connected
peer has is asked for again when a peer comes or after RETRY seconds; nothing gives up while the node runs.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import structlog
import trio

from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.project.opened import open_items
from p2pcap.project.records import MAX_IMAGE, Item
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.folder import FolderImages
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutItems
from p2pcap.swarm.swarm import Swarm

RETRY = 2.0
"""Seconds until peers are asked again for what nobody had."""

PATIENCE = 20.0
"""Seconds without any image arriving after which those still missing are given up for now."""

ITEM_LISTS = 64
"""Item lists kept in memory."""

BATCH = 64
"""Hashes asked for at a time (the protocol's limit)."""

log = structlog.get_logger()


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
    """Item lists and images of one project, from the store, the cache, the folder or the swarm."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        swarm: Swarm,
        cache: ImageCache,
        folder: FolderImages | None,
        peers_changed: Change,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._swarm = swarm
        self._cache = cache
        self._folder = folder
        self._peers_changed = peers_changed
        self._lists: OrderedDict[int, tuple[Item, ...]] = OrderedDict()
        self.fetched_bytes = 0
        self._urgent = 0
        self._calm = Change()

    @property
    def held(self) -> int:
        """Images on this machine."""
        return len(self._cache) + (len(self._folder) if self._folder is not None else 0)

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The verified item list of `chunk`."""
        held = self._lists.get(chunk) or await self._store.items(chunk) or await self._fetch_items(chunk)
        self._lists[chunk] = held
        self._lists.move_to_end(chunk)
        while len(self._lists) > ITEM_LISTS:
            self._lists.popitem(last=False)
        return held

    async def _fetch_items(self, chunk: int) -> tuple[Item, ...]:
        row = self._ledger.project.chunks[chunk]
        data = await self._store.blob(row.items) or await self.blob(row.items, row.length)
        items = open_items(data, row)
        await self._store.commit(PutBlob(row.items, data), PutItems(chunk, items))
        return items

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

    async def image(self, hash_: bytes) -> bytes | None:
        """The image's bytes if they are on this machine."""
        return await trio.to_thread.run_sync(self._local, hash_)

    def _local(self, hash_: bytes) -> bytes | None:
        if self._folder is not None and hash_ in self._folder:
            return self._folder.read(hash_)
        return self._cache.get(hash_)

    async def images(self, hashes: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The verified bytes of `hashes`, without those that no peer hands over for PATIENCE seconds.

        Replication waits meanwhile.
        """
        self._urgent += 1
        try:
            return await self._images(hashes)
        finally:
            self._urgent -= 1
            self._calm.tell()

    async def _images(self, hashes: Sequence[bytes]) -> Mapping[bytes, bytes]:
        found = dict(await trio.to_thread.run_sync(self._cache.get_many, set(hashes)))
        until = trio.current_time() + PATIENCE
        while missing := [hash_ for hash_ in dict.fromkeys(hashes) if hash_ not in found]:
            arrived = await self._ask(missing)
            found |= arrived
            if arrived:
                until = trio.current_time() + PATIENCE
            elif trio.current_time() > until:
                log.warning("images missing", missing=len(missing), peers=len(self._swarm.peers()))
                break
            if len(arrived) < len(missing):
                await self._pause()
        return found

    async def _ask(self, missing: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of `missing` that peers hand over now, kept in the cache."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            async with aclosing(self._swarm.fetch("image", part, None, hash_holds, MAX_IMAGE)) as arriving:
                async for hash_, data in arriving:
                    found[hash_] = data
                    self.fetched_bytes += len(data)
        if found:
            await trio.to_thread.run_sync(self._cache.put_many, list(found.items()))
        return found

    async def replicate(self, order: Sequence[int]) -> None:
        """Keep a copy of the project's images, chunk by chunk in `order`, while the cache has room.

        So the job goes on when the one who seeded it has left, and a late volunteer finds them with any peer. What
        no peer has now is passed over.
        """
        for chunk in order:
            items = await self.items(chunk)
            for start in range(0, len(items), BATCH):
                part = [item for item in items[start : start + BATCH] if item.hash not in self._cache]
                if sum(item.length for item in part) > self._cache.room:
                    log.info("replication ends", reason="the image cache is full", images=len(self._cache))
                    return
                while self._urgent:
                    await self._calm.wait()
                if part:
                    await self._ask(list({item.hash for item in part}))
        log.info("replication ends", reason="every chunk was asked for", images=len(self._cache))

    async def _pause(self) -> None:
        with trio.move_on_after(RETRY):
            await self._peers_changed.wait()
