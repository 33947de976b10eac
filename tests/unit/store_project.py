"""A signed project with two prompts, and writes for the store: what the tests put into databases."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from p2pcap.codec import encode
from p2pcap.envelope import seal
from p2pcap.identity import Identity
from p2pcap.ledger.body import build_body
from p2pcap.ledger.records import Answer, Result, Row
from p2pcap.paths import NodePaths
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.items import NO_IMAGE, Item, ItemList, encode_list
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import Plan, Policy, Stage
from p2pcap.project.task import Model, Prompt, Task
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutBlob, PutItems, PutProject, PutRedaction, PutStatement, Write
from tests.makers import ADA, BOB, EVE, NOW, POLICY, chunks_of, item, make_grant, manifest_of, root_of

__all__ = [
    "ADA",
    "BOB",
    "EVE",
    "NOW",
    "PROMPTS",
    "Sample",
    "database",
    "dropped",
    "image_of",
    "kept",
    "sample",
    "sample_of",
]

PROMPTS = ("describe", "objects")


@dataclass(frozen=True)
class Sample:
    """A project and its item lists."""

    project: Project
    lists: tuple[ItemList, ...]

    @property
    def items(self) -> tuple[tuple[Item, ...], ...]:
        """The items of each chunk."""
        return tuple(one.items for one in self.lists)

    @property
    def blobs(self) -> list[PutBlob]:
        """The item lists as peers ask for them."""
        chunks = chunks_of(self.project)
        return [PutBlob(chunk.items, encode_list(one)) for chunk, one in zip(chunks, self.lists, strict=True)]

    @property
    def setup(self) -> list[PutProject | PutItems]:
        """What every node stores before it works."""
        lists = [PutItems.of(number, found) for number, found in enumerate(self.lists)]
        return [PutProject(self.project, float(NOW)), *lists]

    def grant(self, author: Identity, name: str, time: int = NOW) -> PutStatement:
        return PutStatement(make_grant(self.project, author, name, time), float(time))

    def batch(self, author: Identity, chunk: int, rows: Sequence[Row], time: int = NOW) -> PutBatch:
        """A signed result with these rows, which lie within 64 items of each other and are in order."""
        offset = rows[0].item
        body = build_body(rows, offset)
        result = Result(
            m=self.project.m,
            tid=self.project.stages[0].task.tid,
            chunk=chunk,
            offset=offset,
            n=rows[-1].item - offset + 1,
            mask=body.mask,
            root=body.root,
            length=len(body.data),
            raw=body.raw,
            tokens=sum(answer.tokens for row in rows for answer in row.answers),
            engine=b"engine00",
            time=time,
            nonce=1,
        )
        return PutBatch(seal(author, "result", result), result, tuple(rows), body.data, float(time))

    def slice(
        self, author: Identity, chunk: int, first: int, count: int, text: str = "a red circle", time: int = NOW
    ) -> PutBatch:
        """A signed result for `count` images from item `first` on."""
        return self.batch(author, chunk, [self.row(chunk, index, text) for index in range(first, first + count)], time)

    def row(self, chunk: int, index: int, text: str = "a red circle") -> Row:
        answers = (Answer(f"{text} {chunk}/{index}", 7, "stop"), Answer("circle", 1, "length"))
        return Row(index, image_of(self.items[chunk][index]), answers)

    def error(self, chunk: int, index: int) -> Row:
        return Row(index, self.items[chunk][index].hash or NO_IMAGE, (), "undecodable", "the bytes are no image")


def image_of(listed: Item) -> bytes:
    """The image's hash; where the list has none, one of its own all the same."""
    return listed.hash or hashlib.sha256(listed.key.encode()).digest()


def sample(
    chunks: int = 2, images: int = 64, title: str = "Shapes", policy: Policy = POLICY, version: int = 1
) -> Sample:
    lists = [ItemList(tuple(item(chunk, index) for index in range(images))) for chunk in range(chunks)]
    return sample_of(lists, title, policy, version)


def sample_of(lists: Sequence[ItemList], title: str = "Shapes", policy: Policy = POLICY, version: int = 1) -> Sample:
    """A project with these item lists."""
    task = Task(Model("tiny-shapes"), tuple(Prompt(name, f"{name}?") for name in PROMPTS))
    blobs = [encode_list(one) for one in lists]
    chunks = [Chunk(len(one.items), hashlib.sha256(b).digest(), len(b)) for one, b in zip(lists, blobs, strict=True)]
    plan = encode(Plan(title, (Stage("caption", task),), table_of(chunks), policy))
    root = root_of(title)
    return Sample(open_project(root, manifest_of(root, plan, version=version), plan, payload_hash(root)), tuple(lists))


def dropped(made: Sequence[PutBatch], chunk: int, items: int) -> PutRedaction:
    """The redaction of `items`, with what it drops."""
    covering = [b.envelope.id for b in made if b.result.chunk == chunk and b.result.items & items]
    return PutRedaction(chunk, items, covering)


def database(directory: Path) -> Path:
    return NodePaths(directory).database


def kept(directory: Path, writes: Sequence[Write]) -> Path:
    """A closed database that got the writes one after the other."""

    async def keep() -> None:
        store = Store.open(database(directory))
        for write in writes:
            await store.commit(write)
        await store.close()

    trio.run(keep)
    return database(directory)
