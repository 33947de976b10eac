"""The images of a project on this node: from the cache, a local folder, the swarm, or the files the dataset lies in.

Whoever serves an image need not be trusted: what arrives is checked against the hash that was asked for.

Always holds: while a worker waits for images, copies for others' sake wait; the bytes kept in memory for one slice have
at most KEEP, the others wait in the cache.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing

import structlog
import trio

from p2pcap.errors import ImageError, ImageUnavailable, SourceError, StoreError
from p2pcap.node.change import Change
from p2pcap.node.fetching import BATCH, RETRY, hash_holds
from p2pcap.node.reading import KEEP, Reading
from p2pcap.project.items import MAX_IMAGE, Item, ItemList
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.local import LocalImages
from p2pcap.swarm.swarm import Swarm
from p2pcap.worker.slices import Image

PATIENCE = 20.0
"""Seconds without any image arriving after which those still missing are given up for now."""

SEEDERS = ("coordinator", "seeder")
"""Roles of nodes that should have every image that travels."""

SEEDLESS = 6 * 3_600.0
"""Seconds without any of these nodes after which an image that no peer has counts as missing: until then the seeder is
taken to be away, and the job waits."""

PUT_BYTES = 4 * 1024 * 1024
"""Bytes that are written to the cache at a time."""

log = structlog.get_logger()


class Images:
    """`listing` gives the item list of a chunk; `local` is a folder that may hold images of the project."""

    def __init__(
        self,
        swarm: Swarm,
        cache: ImageCache,
        local: LocalImages | None,
        reading: Reading,
        listing: Callable[[int], Awaitable[ItemList]],
        peers_changed: Change,
    ) -> None:
        self._swarm = swarm
        self._cache = cache
        self._local = local
        self._reading = reading
        self._listing = listing
        self._peers_changed = peers_changed
        self._seeded = trio.current_time()
        self._urgent = 0
        self._resting = False
        self._calm = Change()
        self._fetched = 0

    @property
    def fetched_bytes(self) -> int:
        """Bytes of images that came over the network."""
        return self._fetched + self._reading.read_bytes

    @property
    def held(self) -> int:
        """Images on this machine."""
        return len(self._cache) + (len(self._local) if self._local is not None else 0)

    def rest(self, resting: bool) -> None:
        """Copy no images ahead, or again."""
        self._resting = resting
        self._calm.tell()

    async def load(self, hash_: bytes) -> bytes | None:
        """The image's bytes, if they are on this machine."""
        if self._local is not None and hash_ in self._local:
            data = await self._local.read(hash_)
            if data is not None:
                return data
        return await trio.to_thread.run_sync(self._cache.get, hash_)

    async def again(self, hash_: bytes) -> bytes | None:
        """The bytes of an image that was here when it was asked for, and has left the cache for others since: a cache
        may be smaller than what waits for the engine. From a peer; None when none has it now."""
        found = await self._ask([hash_])
        return found[hash_].data if hash_ in found else None

    async def of_chunk(
        self, chunk: int, found: ItemList, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        """The images at the places `wanted` of the chunk, or why one cannot be had; `ahead` are asked for next.

        What nobody is there to hand over is left out. Raises SourceError when this machine cannot read the file now.
        """
        held = await trio.to_thread.run_sync(self._held, found, {*wanted, *ahead})
        here = {index: Image(found.items[index].hash) for index in wanted if index in held}
        rest = [index for index in wanted if index not in here]
        travelling = {index: found.items[index].hash for index in rest if found.travels(found.items[index])}
        read = [index for index in rest if index not in travelling]
        unplanned = {index: _unplanned(found.items[index]) for index, hash_ in travelling.items() if not hash_}
        self._urgent += 1
        try:
            asked = {index: hash_ for index, hash_ in travelling.items() if hash_}
            came = await self._from_peers(asked) if asked else {}
            soon = [index for index in ahead if index not in held and not found.travels(found.items[index])]
            came |= await self._reading.images(chunk, found, read, soon) if read else {}
            return here | unplanned | came
        finally:
            self._urgent -= 1
            self._calm.tell()

    def _held(self, found: ItemList, places: Collection[int]) -> set[int]:
        """Those of `places` whose images are on this machine. In a thread: each is a question to a database."""
        return {index for index in places if self._has(found.items[index].hash)}

    def _has(self, hash_: bytes) -> bool:
        return bool(hash_) and (hash_ in self._cache or (self._local is not None and hash_ in self._local))

    async def _from_peers(self, wanted: Mapping[int, bytes]) -> dict[int, Image | ImageError]:
        """The images with these hashes, without those that no peer hands over for PATIENCE seconds."""
        held: dict[bytes, Image] = {}
        until = trio.current_time() + PATIENCE
        while missing := [hash_ for hash_ in dict.fromkeys(wanted.values()) if hash_ not in held]:
            arrived = await self._ask(missing)
            held |= arrived
            if arrived:
                until = trio.current_time() + PATIENCE
            elif trio.current_time() > until:
                break
            if len(arrived) < len(missing):
                await self._pause()
        found: dict[int, Image | ImageError] = {i: held[hash_] for i, hash_ in wanted.items() if hash_ in held}
        return found | self._unavailable([index for index in wanted if index not in found])

    def _unavailable(self, missing: Sequence[int]) -> dict[int, Image | ImageError]:
        """These images are with no peer; if none is there that should have them, nothing is said of them yet."""
        now = trio.current_time()
        if any(peer.status is not None and peer.status.role in SEEDERS for peer in self._swarm.peers()):
            self._seeded = now
        elif now < self._seeded + SEEDLESS:
            return {}
        return {index: ImageUnavailable("unavailable", "No peer hands the image over.") for index in missing}

    async def _ask(self, missing: Sequence[bytes]) -> dict[bytes, Image]:
        """Those of `missing` that peers hand over now, kept in the cache."""
        found: dict[bytes, Image] = {}
        kept = 0
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            waiting: list[tuple[bytes, bytes]] = []
            async with aclosing(self._swarm.fetch("image", part, None, hash_holds, MAX_IMAGE)) as arriving:
                async for hash_, data in arriving:
                    waiting.append((hash_, data))
                    found[hash_] = Image(hash_, data if kept + len(data) <= KEEP else None)
                    kept += len(data)
                    self._fetched += len(data)
                    if sum(len(data) for _, data in waiting) > PUT_BYTES:
                        await self._put(waiting)
                        waiting = []
            await self._put(waiting)
        return found

    async def _put(self, images: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep images in the cache. Raises SourceError when the disk refuses: that is no reason to end the node."""
        try:
            await trio.to_thread.run_sync(self._cache.put_many, images)
        except StoreError as error:
            raise SourceError(str(error)) from error

    async def replicate(self, order: Sequence[int]) -> None:
        """Keep a copy of the images that travel through the swarm, chunk by chunk in `order`, while the cache has room.

        So the job goes on when the one who seeded it has left, and a late volunteer finds them with any peer. What
        no peer has now is passed over.
        """
        for chunk in order:
            found = await self._listing(chunk)
            items = [item for item in found.items if item.hash and found.travels(item)]
            if not any(map(found.travels, found.items)):
                log.info("replication ends", reason="the images are read where they are")
                return
            for start in range(0, len(items), BATCH):
                part = [item for item in items[start : start + BATCH] if not self._has(item.hash)]
                if sum(item.length for item in part) > self._cache.room:
                    log.info("replication ends", reason="the image cache is full", images=len(self._cache))
                    return
                while self._urgent or self._resting:
                    await self._calm.wait()
                if part and not await self._copied(list({item.hash for item in part})):
                    return
        log.info("replication ends", reason="every chunk was asked for", images=len(self._cache))

    async def _copied(self, hashes: Sequence[bytes]) -> bool:
        """Ask peers for these; False when there is no room for them on the disk."""
        try:
            await self._ask(hashes)
        except SourceError as error:
            log.warning("replication ends", reason=str(error))
            return False
        return True

    async def _pause(self) -> None:
        with trio.move_on_after(RETRY):
            await self._peers_changed.wait()


def _unplanned(item: Item) -> ImageError:
    """Why an image that is to travel has no hash: whoever planned the project could not read it."""
    too_large = item.length >= MAX_IMAGE
    return ImageError("too-large" if too_large else "undecodable", "It could not be read when the project was planned.")
