"""Images that are read from files on the Hub or on the web: each chunk's file is read once for all its slices.

A read goes ahead of the slices that ask, into the image cache, and waits when it is too far ahead. Which images come,
and which do not, is kept until it is asked for.

Always holds: what is read and not yet asked for has at most LEAD bytes a chunk while nobody waits for more; of
MAX_CHUNKS chunks at a time something is kept; a failed read is told to whoever waits for it; an image that is handed
over is in memory or in the cache at that moment.
"""

import hashlib
import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
import trio

from p2pcap.errors import ImageError, SourceError, StoreError
from p2pcap.node.change import Change
from p2pcap.project.items import ItemList
from p2pcap.project.records import FetchRules
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.files import Files
from p2pcap.sources.reading import read_images
from p2pcap.worker.slices import Image

LEAD = 512 * 1024 * 1024
"""Bytes of a chunk that are read before they are asked for, on disk; and never more than half the cache's cap."""

KEEP = 32 * 1024 * 1024
"""Bytes of all that is read that stay in memory too, so that small images are not read from disk again."""

MAX_CHUNKS = 4
"""Chunks that are read at one time: a worker is at one, or between two."""

WINDOW = 256
"""Images with addresses of their own that are fetched ahead in one read: a slow one must not let all others of its
chunk run ahead of it."""

log = structlog.get_logger()

Outcome = Image | ImageError | SourceError


class Reading:
    """`rules` are the project's; `scratch` is a folder for passing files."""

    def __init__(self, cache: ImageCache, rules: FetchRules, scratch: Path) -> None:
        self._cache = cache
        self._rules = rules
        self._scratch = scratch
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()
        self._files: Files | None = None
        self._nursery: trio.Nursery | None = None
        self._open = Change()
        self.read_bytes = 0

    async def run(self, files: Files) -> None:
        """Read what is asked for, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._files = files
            self._open.tell()
            await trio.sleep_forever()

    async def images(
        self, chunk: int, found: ItemList, wanted: Sequence[int], ahead: Collection[int]
    ) -> dict[int, Image | ImageError]:
        """The images at the places `wanted` of the chunk, each once it is in the cache, or why it cannot be had.

        Raises SourceError when this machine cannot read the file now.
        """
        while self._files is None or self._nursery is None:
            await self._open.wait()
        state = self._of(chunk)
        asked = {*wanted, *(ahead if found.file is not None else sorted(ahead)[:WINDOW])}
        state.waiting += 1
        state.taken.tell()
        try:
            state.forget_failures(asked)
            if state.unasked(wanted):
                places = sorted(state.unasked(asked))
                state.due |= set(places)
                self._nursery.start_soon(self._read, self._files, state, found, places)
            while not all(index in state.outcomes for index in wanted):
                await state.changed.wait()
        finally:
            state.waiting -= 1
        return self._take(state, wanted)

    def _take(self, state: "_Chunk", wanted: Sequence[int]) -> dict[int, Image | ImageError]:
        """The outcomes, without images that the cache has dropped. Raises the SourceError of a read that failed."""
        taken = state.take(wanted)
        if failed := next((one for one in taken.values() if isinstance(one, SourceError)), None):
            raise failed
        return {index: one for index, one in taken.items() if not isinstance(one, SourceError) and self._is_here(one)}

    def _is_here(self, outcome: Image | ImageError) -> bool:
        return isinstance(outcome, ImageError) or outcome.data is not None or outcome.hash in self._cache

    def _of(self, chunk: int) -> "_Chunk":
        state = self._chunks.setdefault(chunk, _Chunk())
        self._chunks.move_to_end(chunk)
        if len(self._chunks) > MAX_CHUNKS:
            idle = [number for number, other in self._chunks.items() if not other.waiting and number != chunk]
            for number in idle[:1]:
                self._chunks.pop(number).give_up()
        return state

    async def _read(self, files: Files, state: "_Chunk", found: ItemList, places: Sequence[int]) -> None:
        """One read. However it ends, each of `places` has an outcome."""

        async def put(index: int, image: bytes | ImageError) -> None:
            if isinstance(image, bytes):
                state.settle(index, await self._kept(image), len(image))
            else:
                state.settle(index, image)
            await self._not_too_far(state)

        try:
            with state.reading():
                await read_images(files, found, places, self._rules, self._scratch, put)
        except SourceError as error:
            log.warning("source", reason=str(error))
            state.fail(places, error)
        else:
            state.fail(places, SourceError("The read was given up."))

    async def _kept(self, data: bytes) -> Image:
        """The image, in the cache. Raises SourceError when the disk refuses."""
        try:
            hash_ = await trio.to_thread.run_sync(self._put, data)
        except StoreError as error:
            raise SourceError(str(error)) from error
        self.read_bytes += len(data)
        in_memory = sum(state.in_memory for state in self._chunks.values())
        keep = in_memory + len(data) <= KEEP or hash_ not in self._cache
        return Image(hash_, data if keep else None)

    def _put(self, data: bytes) -> bytes:
        hash_ = hashlib.sha256(data).digest()
        self._cache.put_many([(hash_, data)])
        return hash_

    async def _not_too_far(self, state: "_Chunk") -> None:
        while not state.waiting and state.on_disk > min(LEAD, self._cache.cap // 2):
            await state.taken.wait()


def empty(scratch: Path) -> None:
    """Make the folder for passing files, and remove what an earlier node left in it. Raises StoreError."""
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{scratch} cannot be made: {error.strerror}. See that there is room.") from error


class _Chunk:
    """What is known of one chunk's images: `due` are being read, `outcomes` are there to be taken; `on_disk` and
    `in_memory` are their bytes."""

    def __init__(self) -> None:
        self.changed = Change()
        self.taken = Change()
        self.due: set[int] = set()
        self.outcomes: dict[int, Outcome] = {}
        self.on_disk = 0
        self.in_memory = 0
        self.waiting = 0
        self._sizes: dict[int, int] = {}
        self._scopes: set[trio.CancelScope] = set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A read, until `give_up`."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)

    def give_up(self) -> None:
        """End all reads of this chunk."""
        for scope in self._scopes:
            scope.cancel()

    def unasked(self, places: Collection[int]) -> set[int]:
        """Those of `places` that are neither there nor coming."""
        return {index for index in places if index not in self.outcomes and index not in self.due}

    def forget_failures(self, places: Collection[int]) -> None:
        """A read that failed before these were asked for says nothing of the next one."""
        for index in [index for index in places if isinstance(self.outcomes.get(index), SourceError)]:
            del self.outcomes[index]

    def settle(self, index: int, outcome: Outcome, size: int = 0) -> None:
        """This place has come to an end; an image has so many bytes."""
        self.due.discard(index)
        self.outcomes[index] = outcome
        self._sizes[index] = size
        self.on_disk += size
        self.in_memory += size if isinstance(outcome, Image) and outcome.data else 0
        self.changed.tell()

    def fail(self, places: Collection[int], error: SourceError) -> None:
        """Whatever of `places` has not come will not come by this read."""
        for index in self.due.intersection(places):
            self.settle(index, error)

    def take(self, places: Sequence[int]) -> dict[int, Outcome]:
        """The outcomes of `places`, which are all there."""
        taken = {index: self.outcomes.pop(index) for index in places}
        for index, outcome in taken.items():
            size = self._sizes.pop(index, 0)
            self.on_disk -= size
            self.in_memory -= size if isinstance(outcome, Image) and outcome.data else 0
        self.taken.tell()
        return taken
