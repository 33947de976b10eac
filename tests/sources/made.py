"""Data sets that tests make: images that are bytes told by their names, in Parquet files, tables and tars, and their
planning as a maintainer's machine does it."""

import hashlib
import io
import random
import tarfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trio

from p2pcap.project.items import Item, ItemList
from p2pcap.project.records import FetchRules
from p2pcap.sources import planning
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.spec import Images

STRANGE = ("two words.jpg", 'it\'s "quoted".png', "new\nline.webp", "😀.jpg", "é" * 100 + ".jpg", "same.jpg")
"""Names as people have them; the last stands in two folders."""


Columns = Mapping[str, Sequence[object]]
NONE: Columns = {}


def image(name: str) -> bytes:
    """Bytes that stand for an image; planners look at none."""
    return random.Random(name).randbytes(600)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def parquet(names: Sequence[str], columns: Columns = NONE, group: int = 3) -> bytes:
    cells = [{"bytes": image(name), "path": name} for name in names]
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, type_), "key": pa.array(names, pa.string()), **columns})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=group, compression="none")
    return out.getvalue()


def url_table(urls: Sequence[str | None], columns: Columns = NONE) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"url": pa.array(urls, pa.string()), **columns}), out)
    return out.getvalue()


def tar(names: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(image(name))
            archive.addfile(info, io.BytesIO(image(name)))
    return out.getvalue()


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def planned(
    base: Path, images: Images, size: int = 64, progress: Callable[[int], None] = lambda _: None
) -> list[ItemList]:
    async def run() -> list[ItemList]:
        data = planning.data_folder(base, images)
        async with open_files(
            data, Access(FetchRules(), trusted=True, follow_symlinks=images.follow_symlinks)
        ) as files:
            async with aclosing(planning.plan(files, base, images, size, progress)) as lists:
                return [found async for found in lists]

    return trio.run(run)


def items(lists: list[ItemList]) -> list[Item]:
    return [item for found in lists for item in found.items]


def keys(lists: list[ItemList]) -> list[str]:
    return [item.key for item in items(lists)]
