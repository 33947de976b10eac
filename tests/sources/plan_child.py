"""Plans the images that its first argument names, as Images in JSON, in its second argument's folder, and prints what
that took: `python -m tests.sources.plan_child IMAGES FOLDER`."""

import json
import resource
import sys
from contextlib import aclosing
from pathlib import Path

import msgspec
import structlog
import trio

from p2pcap.project.records import FetchRules
from p2pcap.sources import planning
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.spec import Images

SIZE = 1_024


async def main(images: Images, base: Path) -> None:
    before = peak(resource.RUSAGE_SELF)
    chunks, count = 0, 0
    async with open_files(planning.data_folder(base, images), Access(FetchRules(), trusted=True)) as files:
        async with aclosing(planning.plan(files, base, images, SIZE, lambda _: None)) as lists:
            async for found in lists:
                chunks += 1
                count += len(found.items)
    grown = peak(resource.RUSAGE_SELF) - before
    said = {"chunks": chunks, "images": count, "grown": grown}
    print(json.dumps(said | {"reader": peak(resource.RUSAGE_CHILDREN)}))


def peak(whose: int) -> int:
    """Bytes of memory, of the process or of the largest of its children that have ended."""
    return resource.getrusage(whose).ru_maxrss * 1024


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    trio.run(main, msgspec.json.decode(sys.argv[1], type=Images), Path(sys.argv[2]))
