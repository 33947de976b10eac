"""Bytes that a volunteer moves for a chunk of a dataset of the Hub, against the bytes of its row groups or tar range.

2,000 images of 85 kB in three forms on a Hub that runs here and counts bytes: Parquet with row groups of 100 and of
1,000 images, and a tar with its index. Read is the chunk in the middle, by processes of their own. The baseline is the
plain way: the same row groups or range with the Hub's filesystem as it comes, `read_row_group`, or seek and read.

Memory is what the reading process grows by, and all of the process that it starts for pyarrow; the baseline is what the
plain way grows by. `chunk_reader` is the program.
"""

import io
import json
import os
import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import Processes, temporary_processes
from benchmarks.report import Lines, at_most
from p2pcap.sources.tar_index import encode_index, seek_index
from tests.sources.fake_hub import FakeHub

IMAGES, SIZE = 2_000, 85_000
REPO = "owner/name"
WITHIN = 300.0
"""Seconds that a process may take."""

GOAL = 1.1
MEMORY_GOAL = 300.0
SEED = 6
MIB = 1024**2


def run() -> Lines:
    """For each form the bytes moved by the bytes needed, then the memory."""
    with temporary_processes() as processes:
        files = {path.name: path for path in _made(processes.folder)}
        with FakeHub({REPO: files}) as hub:
            for form in ("rows_100.parquet", "rows_1000.parquet", "shard.tar"):
                yield from _compared(processes, hub, files[form])


def _compared(processes: Processes, hub: FakeHub, path: Path) -> Lines:
    chunk, moved, ours = _read(processes, hub, "ours", path.name, None)
    _, plainly, plain = _read(processes, hub, "plain", path.name, chunk)
    needed = _needed(path, chunk)
    name = f"chunk_bytes.{path.stem}"
    yield at_most(name, moved / needed, "ratio", GOAL, plainly / needed)
    memory = (ours["grown"] + ours["below"]) / 1024
    yield at_most(f"{name}_memory", memory, "MiB", MEMORY_GOAL, plain["grown"] / 1024)


def _read(processes: Processes, hub: FakeHub, way: str, name: str, chunk: Any) -> tuple[Any, int, Any]:
    """The chunk, the bytes that were moved for it, and what the process says of itself."""
    place = f"hf://datasets/{REPO}@{hub.revision(REPO)}/{name}"
    command = (sys.executable, "-m", "benchmarks.chunk_reader", way, place)
    reader = processes.start(f"{way}-{name}", *command, environment={**os.environ, **hub.environment}, piped=True)
    try:
        chunk = chunk or json.loads(reader.line(WITHIN))
        before = hub.bytes_of(name)
        said = reader.ask(WITHIN, chunk)
        return chunk, hub.bytes_of(name) - before, said
    finally:
        processes.stop(reader)


def _needed(path: Path, chunk: Any) -> int:
    if chunk["span"]:
        return int(chunk["span"][1])
    groups = [pq.read_metadata(path).row_group(group) for group in chunk["groups"]]
    return sum(group.column(leaf).total_compressed_size for group in groups for leaf in range(group.num_columns))


def _made(folder: Path) -> Iterator[Path]:
    """The files, the tar's index behind the tar."""
    draw = random.Random(SEED)
    images = [draw.randbytes(SIZE) for _ in range(IMAGES)]
    for rows in (100, 1_000):
        path = folder / f"rows_{rows}.parquet"
        cells = [{"bytes": image, "path": f"{number}.jpg"} for number, image in enumerate(images)]
        pq.write_table(pa.table({"image": cells, "text": ["some words"] * IMAGES}), path, row_group_size=rows)
        yield path
    yield _tar(folder / "shard.tar", images)
    yield _index(folder / "shard.tar")


def _tar(path: Path, images: list[bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for number, image in enumerate(images):
            member = tarfile.TarInfo(f"{number:06}.jpg")
            member.size = len(image)
            shard.addfile(member, io.BytesIO(image))
    return path


def _index(path: Path) -> Path:
    size = path.stat().st_size
    with path.open("rb") as shard:
        found = seek_index(shard, size, lambda _: None)
    index = path.with_suffix(".json")
    index.write_bytes(encode_index(path.name, size, found.members))
    return index
