"""Parquet files made by tests, and what reading them gives."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import trio

from p2pcap.errors import ImageError
from p2pcap.project.items import ItemList
from p2pcap.sources import parquet
from p2pcap.sources.files import Files
from p2pcap.sources.locations import DataFile, Location
from p2pcap.sources.spec import Images

Given = bytes | str


def pictures(count: int, size: int = 3_000, seed: int = 0) -> list[bytes]:
    """Bytes that stand for images; each is another one."""
    draw = Random(seed)
    return [draw.randbytes(size + draw.randrange(100)) for _ in range(count)]


def structs(images: Iterable[bytes]) -> pa.StructArray:
    """As the library `datasets` writes images."""
    cells = [{"bytes": image, "path": f"{index}.jpg"} for index, image in enumerate(images)]
    return pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def write(path: Path, columns: Mapping[str, Any], groups: Sequence[int] | int = 100, **options: Any) -> None:
    """A file with row groups of these numbers of rows."""
    table = pa.table(dict(columns))
    sizes = [groups] * (-(-table.num_rows // groups)) if isinstance(groups, int) else groups
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.slice(start, size), row_group_size=max(1, size))
            start += size


def planned(files: Files, location: Location | str, size: int = 1_024, **settings: Any) -> list[ItemList]:
    """All lists of a file."""
    at = DataFile(location) if isinstance(location, str) else location
    return trio.run(plan, files, at, size, Images(source="", **settings))


async def plan(files: Files, location: Location, size: int, images: Images) -> list[ItemList]:
    """All lists of a file."""
    return [found async for found in parquet.plan(files, location, images, size)]


def given(files: Files, found: ItemList, scratch: Path, wanted: Sequence[int] | None = None) -> dict[int, Given]:
    """What the reader gives for the wanted places: bytes, or an error's code. No place comes twice."""
    return trio.run(give, files, found, scratch, range(len(found.items)) if wanted is None else wanted)


async def give(files: Files, found: ItemList, scratch: Path, wanted: Sequence[int]) -> dict[int, Given]:
    """As `given`."""
    images: dict[int, Given] = {}

    async def put(place: int, image: bytes | ImageError) -> None:
        assert place not in images
        await trio.lowlevel.checkpoint()
        images[place] = image.code if isinstance(image, ImageError) else image

    assert found.parquet
    await parquet.read(files, found.parquet, {place: found.items[place] for place in wanted}, scratch, put)
    return images
