"""64 parallel fetches of images of 50 kB from a loopback server with 50 ms of latency, against httpx2 as it is.

The server is a process of its own. The sides take turns, so that what else the machine does meets both; each has one
round that is not counted. Ours asks through everything that a volunteer's node asks through: the guard, the places of
a host, robots.txt, deadlines and caps. The plain side is httpx2's client with 64 tasks, in the same process.
"""

import statistics
import sys
import time
from collections.abc import Iterator

import httpx2
import trio

from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least
from p2pcap.errors import ImageError, P2pcapError
from p2pcap.project.items import Item
from p2pcap.project.records import FetchRules
from p2pcap.sources import addresses
from p2pcap.sources.files import Files
from p2pcap.sources.open_files import Access, open_files

IMAGES, SIZE, LATENCY = 1_000, 50_000, 0.05
"""Images of a round, bytes of each, and seconds before the server answers."""

PARALLEL = 64
ROUNDS = 7
GOAL = 0.90
START_WITHIN = 30.0


def run() -> Lines:
    """Images per second of both, by the median round, and the median of their ratios."""
    with temporary_processes() as processes:
        server = processes.start("server", sys.executable, "-m", "benchmarks.url_server", piped=True)
        rounds = trio.run(_rounds, server.line(START_WITHIN))
    ours, plain = ([IMAGES / seconds for seconds in side] for side in zip(*rounds[1:], strict=True))
    yield Line("url_fetch.rate", statistics.median(ours), "images/s", baseline=statistics.median(plain))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, plain, strict=True))
    yield at_least("url_fetch.ratio", ratio, "ratio", GOAL, 1.0)


async def _rounds(place: str) -> list[tuple[float, float]]:
    """Seconds of our round and the plain one, the first pair to warm up."""
    urls = [f"http://{place}/{number}.jpg" for number in range(IMAGES)]
    rules = FetchRules(hosts=(place,))
    limits = httpx2.Limits(max_connections=PARALLEL, max_keepalive_connections=PARALLEL)
    async with open_files(None, Access(rules)) as files, httpx2.AsyncClient(limits=limits, timeout=10) as client:
        return [(await _ours(files, urls, rules), await _plain(client, urls)) for _ in range(ROUNDS + 1)]


async def _ours(files: Files, urls: list[str], rules: FetchRules) -> float:
    came = 0

    async def put(_place: int, image: bytes | ImageError) -> None:
        nonlocal came
        if isinstance(image, ImageError):
            raise P2pcapError(f"An image did not come: {image}.")
        came += len(image)

    items = {place: Item(url, b"", 0, url) for place, url in enumerate(urls)}
    began = time.perf_counter()
    await addresses.read(files, items, rules, put)
    _check(came)
    return time.perf_counter() - began


async def _plain(client: httpx2.AsyncClient, urls: list[str]) -> float:
    came, left = [], iter(urls)

    async def fetch(left: Iterator[str]) -> None:
        for url in left:
            response = await client.get(url)
            came.append(len(response.raise_for_status().content))

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(PARALLEL):
            nursery.start_soon(fetch, left)
    _check(sum(came))
    return time.perf_counter() - began


def _check(came: int) -> None:
    if came != IMAGES * SIZE:
        raise P2pcapError(f"{came} bytes came instead of {IMAGES * SIZE}.")
