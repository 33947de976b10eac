"""A project planned over a real dataset and captioned by a real worker, with an engine that tells each image's hash.

So a test can say whether every image of the dataset got one row, and whether it is the row of that very image.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import trio

from p2pcap.codec import encode
from p2pcap.engine.base import Output
from p2pcap.errors import ImageError, SourceError
from p2pcap.ledger.records import Row
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.images import Images as NodeImages
from p2pcap.node.reading import Reading
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.items import Item, ItemList, encode_list
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import FetchRules, Plan, Policy, Stage
from p2pcap.project.task import Model, Prompt, Task
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.planning import data_folder, plan
from p2pcap.sources.spec import Images
from p2pcap.worker.slices import Image
from tests.makers import Made, ledger_of, manifest_of, root_of
from tests.twins import AUTHORS, ME, TwinEngine, TwinStation, TwinSwarm

CHUNK = 64


class HashEngine(TwinEngine):
    """Answers with the SHA-256 of the image it was given, at once unless told otherwise."""

    def __init__(self, capacity: int, seconds: Callable[[bytes], float] = lambda image: 0.0) -> None:
        super().__init__(capacity, seconds)

    async def _caption(self, image: bytes, died: trio.Event) -> tuple[Output, ...]:
        await trio.sleep(self.seconds(image))
        return (Output(hashlib.sha256(image).hexdigest(), 4, "stop"),)


class SourceStation(TwinStation):
    """The node around the worker, with the real reading of images."""

    images_of: NodeImages
    lists: Sequence[ItemList]
    said: list[str]

    async def images(
        self, chunk: int, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        try:
            return await self.images_of.of_chunk(chunk, self.lists[chunk], wanted, ahead)
        except SourceError as error:
            self.said.append(str(error))
            await trio.sleep(0.2)
            return {}

    async def load(self, hash_: bytes) -> bytes | None:
        return await self.images_of.load(hash_)


class Nobody:
    """A swarm without peers."""

    def peers(self) -> tuple[()]:
        return ()


async def planned(base: Path, images: Images, size: int = CHUNK) -> list[ItemList]:
    """The lists of a dataset, as the maintainer plans them."""
    folder = await trio.to_thread.run_sync(data_folder, base, images)
    async with open_files(folder, Access(FetchRules(images.hosts, images.robots), trusted=True)) as files:
        return [found async for found in plan(files, base, images, size, lambda count: None)]


def project_of(lists: Sequence[ItemList], rules: FetchRules) -> Made:
    """A signed project with these chunks."""
    blobs = [encode_list(found) for found in lists]
    chunks = table_of(
        Chunk(len(found.items), hashlib.sha256(data).digest(), len(data))
        for found, data in zip(lists, blobs, strict=True)
    )
    task = Task(Model("tiny"), (Prompt("caption", "What is it?"),))
    data = encode(Plan("Sources", (Stage("caption", task),), chunks, Policy(), fetch=rules))
    root = root_of("Sources")
    project: Project = open_project(root, manifest_of(root, data), data, payload_hash(root))
    return Made(project, tuple(found.items for found in lists))


class Captioned:
    """What became of a dataset: `rows` by chunk and item, in the order in which they were published."""

    def __init__(self, lists: Sequence[ItemList]) -> None:
        self.lists = lists
        self.rows: list[tuple[int, Row]] = []
        self.said: list[str] = []

    @property
    def by_key(self) -> dict[str, list[str]]:
        """For each key the captions it got: hashes, or an error's code."""
        found: dict[str, list[str]] = {}
        for chunk, row in self.rows:
            found.setdefault(self.item(chunk, row).key, []).append(row.error or row.answers[0].text)
        return found

    def item(self, chunk: int, row: Row) -> Item:
        """The item that a row is about."""
        return self.lists[chunk].items[row.item]


async def captioned(
    folder: Path,
    lists: Sequence[ItemList],
    rules: FetchRules | None = None,
    data: Path | None = None,
    stops: Sequence[int] = (),
    engine: TwinEngine | None = None,
) -> Captioned:
    """Caption the whole dataset with a volunteer's files and cache below `folder`.

    After as many rows as each of `stops` says the volunteer leaves, and comes back with an empty cache.
    """
    rules = rules or FetchRules()
    made = project_of(lists, rules)
    ledger = ledger_of(made.project, *AUTHORS)
    outcome = Captioned(lists)
    for life, stop in enumerate([*stops, len([item for found in lists for item in found.items])]):
        place = folder / f"life-{life}"
        (place / "scratch").mkdir(parents=True)
        with trio.fail_after(120):
            await _live(outcome, made, ledger, place, rules, data, stop, engine or HashEngine(16))
        assert not list((place / "scratch").iterdir()), "a reader left files behind"
    return outcome


async def _live(
    outcome: Captioned,
    made: Made,
    ledger: Ledger,
    place: Path,
    rules: FetchRules,
    data: Path | None,
    stop: int,
    engine: TwinEngine,
) -> None:
    cache = ImageCache(place / "images")
    reading = Reading(cache, rules, place / "scratch")

    async def listing(chunk: int) -> ItemList:
        return outcome.lists[chunk]

    async with open_files(data, Access(rules)) as files, trio.open_nursery() as nursery:
        nursery.start_soon(reading.run, files)
        worker, station = TwinSwarm(made, nursery, kind=SourceStation).join(ME, engine, ledger)
        assert isinstance(station, SourceStation)
        station.images_of = NodeImages(cast(Any, Nobody()), cache, None, reading, listing, Change())
        station.lists, station.said = outcome.lists, outcome.said
        nursery.start_soon(worker.run)
        while len(outcome.rows) + len(station.rows) < stop:
            await station.changed()
        worker.finish()
        await worker.ended.wait()
        outcome.rows += station.rows
        nursery.cancel_scope.cancel()
