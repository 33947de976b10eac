"""Reads a chunk of a file of the Hub, in the way and at the place that `chunk_bytes` names: one line of JSON each way.

`chunk_reader ours LOCATION` plans the file and says which row groups, or which range, the chunk in the middle has; told
to go on, it reads the chunk as a volunteer does. `chunk_reader plain LOCATION` is told row groups or a range, and reads
them with the Hub's filesystem as it comes. At the end both say how many images or bytes came, and the memory in KiB.
"""

import json
import resource
import sys
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import trio

from p2pcap.errors import ImageError, P2pcapError
from p2pcap.project.items import ItemList
from p2pcap.project.records import FetchRules
from p2pcap.sources import parquet, tar
from p2pcap.sources.files import Files
from p2pcap.sources.locations import HubFile, parse
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.reading import read_images
from p2pcap.sources.spec import Images

CHUNK = 1_000
"""Images of a chunk."""


async def ours(location: HubFile) -> int:
    """Images that came."""
    async with open_files(None, Access(FetchRules())) as files:
        found = await _middle(files, location)
        parts = found.parquet.groups if found.parquet else ()
        span = (found.tar.start, found.tar.length) if found.tar else ()
        _say({"groups": parts, "span": span})
        await trio.to_thread.run_sync(sys.stdin.readline)
        return await _read(files, found)


async def _middle(files: Files, location: HubFile) -> ItemList:
    plan = tar.plan if location.path.endswith(".tar") else parquet.plan
    async with aclosing(plan(files, location, Images(source=""), CHUNK)) as lists:
        found = [one async for one in lists]
    middle: ItemList = found[len(found) // 2]
    return middle


async def _read(files: Files, found: ItemList) -> int:
    came = 0

    async def put(_place: int, image: bytes | ImageError) -> None:
        nonlocal came
        if isinstance(image, ImageError):
            raise P2pcapError(f"An image did not come: {image}.")
        came += 1

    with TemporaryDirectory() as scratch:
        await read_images(files, found, range(len(found.items)), FetchRules(), Path(scratch), put)
    return came


def plain(location: HubFile) -> int:
    """Bytes or rows that came."""
    from huggingface_hub import HfFileSystem

    [told] = json.loads(sys.stdin.readline())
    path = str(location).removeprefix("hf://")
    with HfFileSystem().open(path) as file:
        if told["span"]:
            file.seek(told["span"][0])
            return len(file.read(told["span"][1]))
        from pyarrow.parquet import ParquetFile

        opened = ParquetFile(file)
        return sum(opened.read_row_group(group, columns=["image"]).num_rows for group in told["groups"])


def _say(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


def _peak() -> int:
    """The most memory that this process had. getrusage would count what it was forked from as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Run as a program."""
    way, place = sys.argv[1:]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    location = parse(place)
    assert isinstance(location, HubFile)
    before = _peak()
    came = trio.run(ours, location) if way == "ours" else plain(location)
    _say({"came": came, "grown": _peak() - before, "below": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss})


if __name__ == "__main__":
    main()
