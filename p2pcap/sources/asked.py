"""What the maintainer asks of a dataset's images, held against what there is.

Always holds: a setting that bears on nothing, and a field that no image has, is a ConfigError: a misspelt name must not
cost a whole job.
"""

import difflib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec
import structlog
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.items import ItemList
from p2pcap.project.task import MAX_FIELDS
from p2pcap.sources.finding import Found, Shards, is_local, on_hub
from p2pcap.sources.kinds import FileKind
from p2pcap.sources.sidecars import TEXTS, Names
from p2pcap.sources.spec import Images

log = structlog.get_logger()

COLUMNS: Mapping[str, tuple[tuple[FileKind, ...], str]] = {
    "image_column": (("parquet", "stream"), "Parquet files, and for what `datasets` reads"),
    "url_column": (("urls",), "tables of addresses"),
    "key_column": (("parquet", "urls", "stream"), "Parquet files, tables, and what `datasets` reads"),
}
"""Settings that name a column, and the kinds of files that have some."""

DONE = {
    "append": "they are captioned too",
    "replace": "they are captioned anew, without it",
    "skip": "they are left out",
}

SHOWN = 20
"""Names of fields that a message lists."""


def with_caption_field(images: Images) -> Images:
    """The caption is read like any other field. Raises ConfigError when it is not named, or is one too many."""
    name = images.caption_field
    if images.captioned != "append" and not name:
        raise ConfigError(f"images.captioned {images.captioned} needs images.caption_field. Name the field.")
    if not name or name in images.fields:
        return images
    if len(images.fields) == MAX_FIELDS:
        raise ConfigError(f"images.fields and images.caption_field are over {MAX_FIELDS} fields. Take fewer.")
    return msgspec.structs.replace(images, fields=(*images.fields, name))


def check_settings(images: Images, found: Found) -> None:
    """Raises ConfigError for a setting that bears on nothing in what was found."""
    kinds = _kinds(found)
    for name in ("config", "split"):
        if getattr(images, name) and not on_hub(images.source):
            raise _bears_on_nothing(images, name, "datasets on the Hub", "Name the files in images.source instead.")
    if images.follow_symlinks and not is_local(images.source):
        raise _bears_on_nothing(images, "follow_symlinks", "files on this machine", "Take it out.")
    for name, (known, what) in COLUMNS.items():
        if getattr(images, name) and kinds.isdisjoint(known):
            raise _bears_on_nothing(images, name, what, "Take it out, or set images.kind.")


class Tally:
    """Counts what the images have of what is asked, while they are planned. `names`: the fields that were met."""

    def __init__(self, images: Images) -> None:
        self.names = Names()
        self.images = 0
        self._asked = images
        self._having: Counter[str] = Counter()

    async def counted(self, lists: AsyncGenerator[ItemList, None]) -> AsyncGenerator[ItemList, None]:
        """The lists as they are, counted."""
        async with aclosing(lists):
            async for found in lists:
                self.images += len(found.items)
                for item in found.items:
                    if item.fields is not UNSET:
                        self._having.update(item.fields.keys())
                yield found

    def check(self, planned: int) -> None:
        """Say how many images have a caption, of which `planned` are to get one. Raises ConfigError for a field that
        none has, and when there is nothing to plan."""
        asked = self._asked
        if not self.images:
            raise ConfigError(f"{asked.source} has no images to caption: its files are empty. Correct images.source.")
        for name in asked.fields:
            if not self._having[name] and name not in self.names.met:
                raise ConfigError(self._unknown(name))
        captioned = f"{self._having[asked.caption_field]} of {self.images}"
        if not planned:
            raise ConfigError(
                f"{asked.source} has no images to caption: {captioned} have one in the field {asked.caption_field}, "
                "and images.captioned skip leaves them out. Set it to append or replace to caption them anew."
            )
        if asked.caption_field:
            log.warning(
                "images that have a caption", field=asked.caption_field, images=captioned, so=DONE[asked.captioned]
            )

    def _unknown(self, name: str) -> str:
        setting = "caption_field" if name == self._asked.caption_field else "fields"
        met = sorted({*self.names.met, *self._having})
        near = difflib.get_close_matches(name, [*met, *TEXTS], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(map(repr, met[:SHOWN])) + ", …" * (len(met) > SHOWN)
        return (
            f"`images.{setting}` names the field {name!r}, which none of the {self.images} images of "
            f"{self._asked.source} has.{hint} There are: {listed or 'none'}."
        )


def _kinds(found: Found) -> set[FileKind]:
    """Kinds of files that there are, or may be: whether a Parquet file is a table of addresses is not known yet."""
    if not isinstance(found, Shards):
        return {"image"}
    kinds = {shard.kind for shard in found.shards}
    return kinds | ({"urls"} if "parquet" in kinds and not found.decided else set())


def _bears_on_nothing(images: Images, name: str, what: str, advice: str) -> ConfigError:
    return ConfigError(f"images.{name} is for {what}, and {images.source} has none of these. {advice}")
