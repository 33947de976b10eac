"""A ledger whose names and captions are no friends of file systems, spreadsheets and readers of tables."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from p2pcap.cli.nodes import Target
from p2pcap.cli.rows import open_source
from p2pcap.export.source import Source
from p2pcap.ledger.records import Answer, Row
from p2pcap.project.items import Item, ItemList, TarRange
from p2pcap.store.store import Store
from p2pcap.store.writes import Write
from tests.unit.store_project import ADA, BOB, EVE, Sample, database, sample_of

KEYS = (
    "plain.jpg",
    "a/b c.jpg",
    "commas, and \"quotes' .png",
    "new\nline.jpg",
    "tab\tand\x1bescape.jpg",
    "😀/象.webp",
    "\u202egpj.evil.jpg",
    "=cmd('calc').jpg",
    "../../etc/passwd.jpg",
    "/root.jpg",
    "same.jpg",
    "same.png",
    "SAME.gif",
    "same.jpg.png",
    "dot.ted.jpg",
    "a//b.jpg",
    "x" * 300 + ".jpg",
    "back\\slash.jpg",
    "100%.jpg",
    ".hidden.jpg",
    "folder.jpg/inner.png",
    "folder.jpg",
    "without ending",
    "same.jpg.0-10.jpg",
)
CAPTIONS = (
    "a red circle",
    'she said "no", twice',
    "one\ntwo\r\nthree",
    "tab\there",
    "😀 👩‍👩‍👧 象",
    "\u202eright to left\u202c עברית",
    "=cmd|' /C calc'!A0",
    "@SUM(1+9)",
    "x" * 10_000,
    " spaces around ",
    "NA",
    "null",
    "1e999",
    "true",
    "'; DROP TABLE item; --",
    "back\\slash \\n",
    "nul \x00 and escape \x1b[2J",
    "line\u2028separator\u2029 and \x85",
    '{"a": [1]}',
    "-1",
    "<script>alert(1)</script>",
    "%s %d {}",
    "\ufeffmark",
    "ends in \\",
)
IN_TAR = tuple(f"sample/{index:03}" for index in range(8))


def listed(key: str) -> Item:
    return Item(key, hashlib.sha256(key.encode()).digest(), 100, fields={"title": key[:20], "=1+1": 'a "b"'})


def in_tar(index: int, key: str) -> Item:
    return Item(key, b"", 50, at=512 + 1024 * index)


TAR = TarRange("hf://datasets/o/n@main/data/part-0001.tar", 100_000, 0, 100_000)
PROJECT = sample_of(
    [
        ItemList(tuple(map(listed, KEYS))),
        ItemList(tuple(in_tar(index, key) for index, key in enumerate(IN_TAR)), tar=TAR),
    ]
)


def row(project: Sample, chunk: int, index: int, text: str) -> Row:
    listed = project.items[chunk][index]
    image = listed.hash or hashlib.sha256(listed.key.encode()).digest()
    return Row(index, image, (Answer(text, 7, "stop"), Answer(f"thing {index}", 1, "length")))


def captioned() -> list[Write]:
    """All of it: images of a folder and of a tar, by two authors, and one that cannot be captioned."""
    folder = [row(PROJECT, 0, index, text) for index, text in enumerate(CAPTIONS)]
    return [
        *PROJECT.setup,
        PROJECT.grant(ADA, 'Ada, "the first"\n=1'),
        PROJECT.grant(BOB, "Bob"),
        PROJECT.batch(ADA, 0, folder[:12]),
        PROJECT.batch(BOB, 0, folder[12:]),
        PROJECT.batch(EVE, 1, [row(PROJECT, 1, index, f"in a tar {index}") for index in range(7)]),
        PROJECT.batch(BOB, 1, [PROJECT.error(1, 7)]),
    ]


def kept(directory: Path, writes: Sequence[Write]) -> Path:
    """A node's folder whose database got these writes."""

    async def make() -> None:
        store = Store.open(database(directory))
        await store.commit(*writes)
        await store.close()

    trio.run(make)
    return directory


@contextmanager
def source_of(directory: Path) -> Iterator[Source]:
    """The tables of a node that does not run."""
    with open_source(Target(directory, None)) as source:
        yield source
