"""Planning image files on the Hub: each is an item of its own, read by its address.

Always holds: an image's hash is the one that the Hub's listing states for its content, where it states one.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import closing

import structlog
import trio
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_IMAGE, MAX_KEY, MAX_LOCATION, Item, ItemList
from p2pcap.sources import described
from p2pcap.sources.described import Descriptions
from p2pcap.sources.files import Files
from p2pcap.sources.hub import HubDataset, RepoFile
from p2pcap.sources.naming import naming
from p2pcap.sources.sidecars import MAX_SIDECAR, TEXTS, Names, as_text, json_fields
from p2pcap.sources.spec import Images

log = structlog.get_logger()

SIDECARS_AT_ONCE = 8
"""Requests for files beside images that are under way together; the Hub answers 429 to many more."""


async def plan(
    files: Files,
    dataset: HubDataset,
    found: Sequence[RepoFile],
    around: Sequence[RepoFile],
    images: Images,
    size: int,
    met: Names,
) -> AsyncGenerator[ItemList, None]:
    """Lists of at most `size` of the images in `found`, in their order. `around` is all that lies in the repository:
    of it come the fields, from metadata tables, else from files beside the image (one request each).

    `met` is told the names of fields that there are. Raises ConfigError for a table that is none, and as `Files` does.
    """
    sidecars = _Sidecars(files, dataset, around, images.fields, met)
    with closing(Descriptions()) as tables:
        if images.fields:
            await _read_tables(files, dataset, around, images.fields, tables, met)
        for start in range(0, len(found), size):
            some = found[start : start + size]
            said = await trio.to_thread.run_sync(tables.of, [file.path for file in some])
            said |= await sidecars.of([file.path for file in some if file.path not in said])
            items = tuple(item for file in some if (item := _item(dataset, file, said.get(file.path, {}))))
            if items:
                yield ItemList(items)


async def _read_tables(
    files: Files, dataset: HubDataset, around: Sequence[RepoFile], names: Sequence[str], into: Descriptions, met: Names
) -> None:
    for file in around:
        if file.path.rsplit("/", 1)[-1] in described.TABLES:
            location = dataset.file(file.path)
            with naming(location):
                await described.read_table(files, location, file.size, names, into, met)


def _item(dataset: HubDataset, file: RepoFile, fields: dict[str, str]) -> Item | None:
    """None for a path that no item can hold. An image that is too large is planned: it ends as an error row."""
    url = str(dataset.file(file.path))
    if len(file.path) > MAX_KEY or len(url) > MAX_LOCATION:
        log.warning("image left out: its path is too long", path=file.path[:100], characters=len(file.path))
        return None
    length = file.size if file.size <= MAX_IMAGE else 0
    return Item(file.path, file.sha256, length, url, fields=fields or UNSET)


class _Sidecars:
    """Files beside images, with the image's name and another suffix."""

    def __init__(
        self, files: Files, dataset: HubDataset, around: Sequence[RepoFile], names: Sequence[str], met: Names
    ) -> None:
        self._files = files
        self._dataset = dataset
        self._names = names
        self._met = met
        self._texts = [(name, suffix) for name in names for suffix in TEXTS.get(name, ())]
        suffixes = {suffix for _, suffix in self._texts} | ({".json"} if names else set())
        self._sizes = {file.path: file.size for file in around if file.path.endswith(tuple(suffixes))}

    async def of(self, paths: Sequence[str]) -> dict[str, dict[str, str]]:
        """The fields of those of the images that have such a file."""
        found: dict[str, dict[str, str]] = {}
        if not self._sizes:
            return found
        limit = trio.CapacityLimiter(SIDECARS_AT_ONCE)

        async def one(path: str) -> None:
            async with limit:
                if fields := await self._fields(path):
                    found[path] = fields

        async with trio.open_nursery() as nursery:
            for path in paths:
                nursery.start_soon(one, path)
        return found

    async def _fields(self, path: str) -> dict[str, str]:
        stem = path[: path.rindex(".")]
        found: dict[str, str] = {}
        for name, suffix in self._texts:
            text = "" if name in found else as_text((await self._read(stem + suffix)).decode("utf-8-sig", "replace"))
            self._met.add([name] if stem + suffix in self._sizes else [])
            found |= {name: text} if text else {}
        missing = [name for name in self._names if name not in found]
        data = await self._read(f"{stem}.json") if missing else b""
        return found | _json(f"{stem}.json", data, missing, self._met)

    async def _read(self, path: str) -> bytes:
        """Empty where there is no such file."""
        size = self._sizes.get(path, 0)
        if not size:
            return b""
        if size > MAX_SIDECAR:
            raise ConfigError(f"{path} has over {MAX_SIDECAR} bytes: too much to describe an image. Have it removed.")
        location = self._dataset.file(path)
        with naming(location):
            return await self._files.read(location, 0, size)


def _json(path: str, data: bytes, names: Sequence[str], met: Names) -> dict[str, str]:
    try:
        return json_fields(data, names, met) if data else {}
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used: {error}. Have it mended, or take no images.fields.") from error
