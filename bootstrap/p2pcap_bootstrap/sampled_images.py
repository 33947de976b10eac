"""A sample of a project's images, read where they lie: in the maintainer's folder, on the Hub or the web.

Always holds: the same project and stage give the same sample on every machine, as far as its images can be had.
"""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from p2pcap.audit.measuring import Shown
from p2pcap.errors import ConfigError, ImageError
from p2pcap.project.items import ItemList
from p2pcap.project.opened import Project, open_list
from p2pcap.sources.files import Files
from p2pcap.sources.finding import data_folder
from p2pcap.sources.locations import FILE
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.reading import read_images
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.workspace import Workspace

OF_CHUNK = 64
"""Images of one chunk at most: enough of them are read together, and a sample is of many chunks."""

MOST_BYTES = 4 * 1024**3
"""Bytes of a sample, which is kept in memory."""


async def sample(workspace: Workspace, file: ProjectFile, project: Project, tid: bytes, count: int) -> list[Shown]:
    """`count` images, or as many as can be had. Raises ConfigError for none at all, SourceError, UntrustedError."""
    rng, lists = random.Random(project.hash + tid), workspace.lists(project)
    chunks = project.chunks(lists.__getitem__)
    numbers = list(range(len(chunks)))
    rng.shuffle(numbers)
    shown: list[Shown] = []
    folder = data_folder(workspace.directory, file.source)
    access = Access(project.plan.fetch_rules, trusted=True)
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as scratch:
        async with open_files(folder, access) as files:
            for number in numbers:
                found = open_list(lists[chunks[number].items], chunks[number])
                places = rng.sample(range(len(found.items)), min(OF_CHUNK, len(found.items)))
                wanted = sorted(places[: count - len(shown)])
                shown += await _read(files, found, wanted, project, Path(scratch))
                if len(shown) >= count or sum(len(one.data) for one in shown) >= MOST_BYTES:
                    break
    if not shown:
        raise ConfigError("None of the project's images can be read here. Check `images` in project.yaml.")
    return shown


async def _read(files: Files, found: ItemList, wanted: Sequence[int], project: Project, scratch: Path) -> list[Shown]:
    read: dict[int, Shown] = {}

    async def put(place: int, image: bytes | ImageError) -> None:
        if isinstance(image, bytes):
            read[place] = Shown(image, found.items[place].metadata)

    await read_images(files, _placed(found), wanted, project.plan.fetch_rules, scratch, put)
    return [read[place] for place in sorted(read)]


def _placed(found: ItemList) -> ItemList:
    """The list with a place for each image that is a file of the maintainer's folder."""
    if found.file is not None:
        return found
    items = (replace(item, url=f"{FILE}{item.key}") if item.url is UNSET else item for item in found.items)
    return replace(found, items=tuple(items))
