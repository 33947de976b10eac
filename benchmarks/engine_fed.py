"""Whether an engine ever waits for images while the source can deliver: the share of time in which it was not full.

A worker reads a dataset of 50-kB images from a Hub on loopback: Parquet row groups, webdataset tars, one request an
image. Its engine has a batch of 64 and takes 80 images at once, as vLLM's does here, and answers each after 0.2 to 0.6
seconds, 200 a second in all: about what a large GPU does with short captions. It waits while it has fewer than a batch
in hand; the time counts from when it was first full until the last image came to it. The baseline is what the engine
can do.
"""

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from os import environ
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trio

from benchmarks.report import Line, Lines, at_most
from p2pcap.sources.spec import Images
from tests.sources.fake_hub import FakeHub
from tests.sources.whole import HashEngine, captioned, planned

COUNT, SIZE = 3_000, 50_000
CHUNK = 512
BATCH, CAPACITY, SECONDS = 64, 80, 0.4
GOAL = 1.0
"""Per cent of the time: on a shared machine the source itself does not deliver all the time."""

REPO = "bench/pictures"


def run() -> Lines:
    """The share of time, for each kind of source, in which the engine had fewer images in hand than it could."""
    pictures = [_picture(number) for number in range(COUNT)]
    with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        for kind, make in KINDS.items():
            place = Path(folder, kind)
            place.mkdir()
            with _hub(make(pictures)):
                starved, rate = trio.run(_caption, place)
            yield at_most(f"engine_fed.{kind}_waited", 100 * starved, "% of the time", GOAL)
            yield Line(f"engine_fed.{kind}_rate", rate, "images/s", baseline=CAPACITY / SECONDS)


async def _caption(place: Path) -> tuple[float, float]:
    lists = await planned(place, Images(source=f"hf://datasets/{REPO}"), CHUNK)
    engine = HashEngine(CAPACITY, _seconds)
    await captioned(place / "volunteer", lists, engine=engine)
    full = next(time for time, level in engine.levels if level == CAPACITY)
    last = max(time for (_, old), (time, level) in pairwise(engine.levels) if level > old)
    spans = [(start, end, level) for (start, level), (end, _) in pairwise(engine.levels) if full <= start < last]
    waited = sum(end - start for start, end, level in spans if level < BATCH)
    came = sum(level > old and full < time <= last for (_, old), (time, level) in pairwise(engine.levels))
    return waited / (last - full), came / (last - full)


def _seconds(image: bytes) -> float:
    return SECONDS * (0.5 + image[4] / 255)


@contextmanager
def _hub(files: Mapping[str, bytes]) -> Iterator[None]:
    before = dict(environ)
    with FakeHub({REPO: files}) as hub:
        environ.update(hub.environment)
        try:
            yield
        finally:
            environ.clear()
            environ.update(before)


def _picture(number: int) -> bytes:
    return b"\xff\xd8\xff\xe0" + hashlib.sha256(number.to_bytes(4, "big")).digest() * (SIZE // 32)


def _parquet(pictures: list[bytes]) -> dict[str, bytes]:
    files = {}
    for start in range(0, COUNT, 1_000):
        cells = [{"bytes": data, "path": None} for data in pictures[start : start + 1_000]]
        out = io.BytesIO()
        pq.write_table(pa.table({"image": cells}), out, row_group_size=100, compression="none")
        files[f"train-{start:05}.parquet"] = out.getvalue()
    return files


def _tars(pictures: list[bytes]) -> dict[str, bytes]:
    files = {}
    for start in range(0, COUNT, 1_000):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as shard:
            for number, data in enumerate(pictures[start : start + 1_000]):
                member = tarfile.TarInfo(f"{number:05}.jpg")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
        files[f"{start:05}.tar"] = out.getvalue()
    return files


def _loose(pictures: list[bytes]) -> dict[str, bytes]:
    return {f"images/{number:05}.jpg": data for number, data in enumerate(pictures)}


KINDS: Mapping[str, Callable[[list[bytes]], dict[str, bytes]]] = {
    "parquet": _parquet,
    "tar": _tars,
    "files": _loose,
}
