"""A feed over a real database file: what the screens with SQL are tested on."""

import asyncio
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio
from PIL import Image

from p2pcap.cli.values import plain
from p2pcap.errors import P2pcapError
from p2pcap.node import chunk_map, manifest_info
from p2pcap.node.chunk_map import ChunkClaim, ChunkMap, StageChunks
from p2pcap.node.manifest_view import describe
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.store.database import reading
from p2pcap.store.query import Limits, select
from p2pcap.store.readers import Readers
from p2pcap.store.store import Store
from p2pcap.store.writes import Write
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.feed import Found
from tests.tui.canned import HOSTILE, NOW, CannedFeed, peer_id, snapshot
from tests.unit.store_project import ADA, BOB, database, sample
from tests.unit.store_project import NOW as THEN

__all__ = ["ADA", "BOB", "MALLORY", "NASTY", "THEN", "StoredFeed", "Twin", "picture", "stored", "stored_ui", "written"]

NASTY = f"a caption with {HOSTILE} in it, 100 % 'quoted'"

MALLORY = "\x1b[2J\x07[bold red]mallory[/] \u202e"
"""A name as hostile as may be signed."""


def written() -> list[Write]:
    """64 captions of Ada's, the newest; two rows of Bob's, an error and a nasty text."""
    project = sample()
    rows = [project.error(1, 0), project.row(1, 1, NASTY)]
    return [
        *project.setup,
        project.grant(ADA, "Ada"),
        project.grant(BOB, MALLORY),
        project.batch(BOB, 1, rows, THEN - 100),
        project.slice(ADA, 0, 0, 64, time=THEN + 100),
    ]


@contextmanager
def stored(directory: Path, writes: Sequence[Write] | None = None) -> Iterator[Readers]:
    """Readers of a database with these writes."""

    async def write() -> None:
        store = Store.open(database(directory))
        try:
            await store.commit(*(written() if writes is None else writes))
        finally:
            await store.close()

    trio.run(write)
    with reading(database(directory)) as readers:
        yield readers


def picture() -> bytes:
    """An image file."""
    file = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


class Twin:
    """What a node answers, without a node. `images` are the hashes it was asked for."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.maps = 0
        self.image_error: P2pcapError | None = None
        self.map_error: P2pcapError | None = None

    def chunk_map(self) -> bytes:
        self.maps += 1
        if self.map_error is not None:
            raise self.map_error
        claims = (
            ChunkClaim("caption", 1, peer_id(0), "attic", True, NOW + 30, 12, 64),
            ChunkClaim("caption", 4, peer_id(2), HOSTILE, False, NOW + 90, 0, 64, idle=True),
        )
        stages = StageChunks("caption", "vcd.cx-" * 1_500), StageChunks("tags", "." * 10)
        return chunk_map.encode(ChunkMap(NOW, stages, claims, 2))

    def manifest(self) -> bytes:
        return manifest_info.encode(describe(sample().project))

    def image(self, chunk: int, item: int, hash_: str) -> bytes:
        self.images.append(hash_)
        if self.image_error is not None:
            raise self.image_error
        return picture()


class StoredFeed(CannedFeed):
    """A feed whose SELECTs run on `readers`."""

    def __init__(self, readers: Readers, client: object = None, *snapshots: NodeSnapshot) -> None:
        super().__init__(*(snapshots or (snapshot(),)), client=client)
        self.readers = readers

    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        self.asked.append(sql)
        return await asyncio.to_thread(self.found, sql, rows, seconds)

    def found(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        with select(self.readers, sql, Limits(rows, seconds)) as selection:
            values = list(plain(selection))
            return Found(list(selection.schema.names), values, selection.truncated)


def stored_ui(readers: Readers, client: object = None, *snapshots: NodeSnapshot) -> TerminalUI:
    """The app on such a feed, at a time that stands still."""
    return TerminalUI(StoredFeed(readers, client, *snapshots), clock=lambda: NOW)
