"""A project with every kind of item list, and metadata that is no friend of terminals, spreadsheets and databases."""

from p2pcap.project.items import MAX_FIELD, Item, ItemList, ParquetRows
from tests.unit.store_project import sample, sample_of

HOSTILE = {
    "=cmd|' /C calc'!A0": '@SUM(1+9)*cmd|"/C calc"',
    "key": "\x00\x1b[2J\x9b\u202e\u2066\r\n\t",
    "value": "None",
    "blank": "",
    "\U0001f600é象": "'\"\\; DROP TABLE item; --",
    "n" * 64: "x" * MAX_FIELD,
}


def web(index: int) -> Item:
    """An image that the planner has not read."""
    return Item(f"row/{index}", b"", 0, url=f"https://example.org/{index}", fields={"title": f"no. {index}"} | HOSTILE)


def known_too(index: int) -> Item:
    return Item(f"seen/{index}", bytes([index]) * 32, 10 + index, url=f"https://example.org/seen/{index}", fields={})


def in_file(index: int) -> Item:
    return Item(f"part/{index}", b"", 0, at=index)


PART = ParquetRows("hf://o/n/part.parquet", 10_000, (0, 2), "image")
ANYWHERE = sample_of(
    [
        ItemList(tuple(web(index) for index in range(64))),
        ItemList(tuple(known_too(index) if index % 2 else web(index) for index in range(64))),
        ItemList(tuple(in_file(index) for index in range(64)), parquet=PART),
        sample(chunks=1).lists[0],
    ]
)
"""A chunk of URLs, one in which some hashes are known, one in a Parquet file, and one of files with hashes."""
