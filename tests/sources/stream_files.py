"""Files that the library `datasets` reads, and what comes of them when they are planned and read."""

import hashlib
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import trio
import trio.testing

from p2pcap.errors import ImageError
from p2pcap.project.items import Item, ItemList, StreamRows
from p2pcap.sources import streamed
from p2pcap.sources.locations import DataFile
from p2pcap.sources.spec import Images
from tests.sources.twin import TwinFiles

NAMES = [
    "plain.png",
    "sub/with space.jpg",
    "it's.png",
    'say "x".webp',
    "line\nbreak.png",
    "кот 🐈.png",
    "x" * 251 + ".jpg",
]
IMAGES = {name: random.Random(name).randbytes(200 + 50 * number) for number, name in enumerate(NAMES)}
"""Nothing here decodes them, so any bytes will do."""

CELLS = [{"bytes": image, "path": name} for name, image in IMAGES.items()]
WORDS = [f"about {number}" for number in range(len(NAMES))]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Made = dict[str, bytes]
"""Images by the keys that they should have."""

MIB = 1024 * 1024


def hash_of(image: bytes) -> bytes:
    return hashlib.sha256(image).digest()


def arrow(path: Path, cells: Sequence[Any], make: Any = pa.ipc.new_stream, **columns: Sequence[Any]) -> None:
    """Record batches of two rows and one of the rest."""
    table = pa.table({"image": pa.array(cells, type=STRUCT), **columns})
    with make(path, table.schema) as writer:
        for start, rows in ((0, 2), (2, len(table))):
            writer.write_table(table.slice(start, rows))


def arrow_stream(path: Path) -> Made:
    arrow(path, CELLS, caption=WORDS)
    return IMAGES


def arrow_file(path: Path) -> Made:
    arrow(path, CELLS, pa.ipc.new_file, caption=WORDS)
    return IMAGES


def arrow_saved(path: Path) -> Made:
    """As `datasets` itself saves one, where the schema says what is an image and what a label."""
    features: dict[str, object] = {"pic": {"_type": "Image"}, "id": {"_type": "Value", "dtype": "int64"}}
    features["caption"] = {"_type": "ClassLabel", "names": WORDS}
    schema = pa.schema([("pic", STRUCT), ("caption", pa.int64()), ("id", pa.int64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    numbers = range(len(CELLS))
    with pa.ipc.new_stream(path, schema) as writer:
        writer.write_table(pa.table({"pic": CELLS, "caption": numbers, "id": [n + 7 for n in numbers]}, schema=schema))
    return {str(number + 7): image for number, image in enumerate(IMAGES.values())}


def folder(path: Path) -> Made:
    """An archive of a folder, with what systems put there."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for extra in ("__MACOSX/._plain.png", ".hidden/x.png", "README.txt", "sub/.DS_Store"):
            archive.writestr(extra, b"no image")
        for name, image in IMAGES.items():
            archive.writestr(name, image)
    return IMAGES


def folder_with_metadata(path: Path) -> Made:
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(IMAGES.values()):
            archive.writestr(f"train/{number}.png", image)
        rows = [{"file_name": f"{number}.png", "caption": word} for number, word in enumerate(WORDS)]
        archive.writestr("train/metadata.jsonl", "\n".join(map(json.dumps, rows)))
    return {f"train/{number}.png": image for number, image in enumerate(IMAGES.values())}


def tar(path: Path, mode: Any = "w", **more: bytes) -> Made:
    with tarfile.open(path, mode) as archive:
        for number, image in enumerate(IMAGES.values()):
            for suffix, data in {"png": image, "caption": WORDS[number].encode(), **more}.items():
                member = tarfile.TarInfo(f"{number:04}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return {f"{number:04}": image for number, image in enumerate(IMAGES.values())}


def packed_tar(path: Path) -> Made:
    """With members that the library would open with NumPy and torch, where they are not what they say."""
    return tar(path, "w:gz", pth=b"no file of torch's", npy=b"no array")


FORMATS: dict[str, tuple[str, Callable[[Path], Made]]] = {
    "arrow stream": ("a.arrow", arrow_stream),
    "arrow file": ("a.arrow", arrow_file),
    "arrow saved": ("data-00000-of-00001.arrow", arrow_saved),
    "zip": ("A [1]*.ZIP", folder),
    "zip with metadata": ("a.zip", folder_with_metadata),
    "tar": ("a.tar", tar),
    "tar.gz": ("a.tar.gz", packed_tar),
}


class Reads:
    """A folder of data, and what comes when it is planned and read."""

    def __init__(self, folder: Path) -> None:
        self.data, self.scratch = folder / "data", folder / "scratch [x]"
        self.data.mkdir()
        self.scratch.mkdir()
        self.files = TwinFiles(self.data)

    def planned(self, name: str, size: int = 1_000, **images: Any) -> list[ItemList]:
        async def main() -> list[ItemList]:
            plan = streamed.plan(self.files, DataFile(name), Images(source=".", **images), size)
            return [found async for found in plan]

        return trio.run(main)

    def rows(self, name: str, builder: str = "arrow", column: str = "image") -> StreamRows:
        return StreamRows(f"file:{name}", (self.data / name).stat().st_size, builder, column)

    async def read(self, rows: StreamRows, wanted: dict[int, Item], put: streamed.Put) -> None:
        try:
            await streamed.read(self.files, rows, wanted, self.scratch, put)
        finally:
            assert list(self.scratch.iterdir()) == []

    def come(self, rows: StreamRows, wanted: dict[int, Item]) -> dict[int, bytes | str]:
        """What was put: images, or the codes of errors."""
        came: dict[int, bytes | str] = {}

        async def put(place: int, image: bytes | ImageError) -> None:
            assert place not in came
            came[place] = image.code if isinstance(image, ImageError) else image

        self.run(rows, wanted, put)
        return came

    def run(self, rows: StreamRows, wanted: dict[int, Item], put: streamed.Put) -> None:
        try:
            trio.run(self.read, rows, wanted, put)
        finally:
            assert children() == []


def children() -> list[psutil.Process]:
    """The processes that read, and no engine that other tests of this session share."""
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if "p2pcap.sources.stream_child" in child.cmdline()]


def numbered(*numbers: int) -> dict[int, Item]:
    """Wanted examples, each at ten times its number in the list."""
    return {10 * number: Item(str(number), b"", 0, at=number) for number in numbers}
