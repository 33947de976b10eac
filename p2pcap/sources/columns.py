"""Which column of a table holds the images, which their addresses, which their keys.

Pure: from names and types alone. What the maintainer names counts; else what the dataset says of itself, then the names
that people use.

Always holds: a choice that cannot be made is a ConfigError that lists the columns there are and names the setting.
"""

import difflib
from collections.abc import Container, Sequence
from typing import Literal

import msgspec

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_KEY
from p2pcap.sources.locations import DataFile, HubFile, Location
from p2pcap.sources.spec import Images

IMAGE_NAMES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content", "data")
URL_NAMES = ("url", "image_url", "img_url", "image_link", "link", "uri", "image_uri", "src", "contenturl", "picture")
KEY_NAMES = ("key", "__key__", "id", "image_id", "uid", "filename", "file_name", "image_name", "path", "name")
"""Usual names, in lower case, the likeliest first."""

HASH_NAME = "sha256"
"""A column of this name with 64 hexadecimal digits says the SHA-256 of the image's bytes."""

SHOWN = 40
"""Columns that a message lists."""


class Column(msgspec.Struct, frozen=True):
    """A column. `kind`: bytes; a struct with bytes in its field "bytes"; text; or another type, or one not known.
    `image`: the dataset says that these are images. `path`: the struct has a field "path" too, which names them."""

    name: str
    kind: Literal["bytes", "struct", "text", "other"]
    image: bool = False
    path: bool = False

    @property
    def images(self) -> bool:
        """Whether its cells can be images."""
        return self.kind in ("bytes", "struct")


def image_column(columns: Sequence[Column], images: Images) -> Column:
    """The column of images. Raises ConfigError."""
    if images.image_column:
        column = named(columns, images.image_column, "image_column")
        if not column.images:
            raise ConfigError(f"The column {column.name!r} holds no image files as bytes. {_choose(columns, 'image')}")
        return column
    found = find_image(columns)
    if found is None:
        raise ConfigError(f"No column holds images, as far as names and types tell. {_choose(columns, 'image')}")
    return found


def find_image(columns: Sequence[Column]) -> Column | None:
    """The column of images; None when there is none, or it cannot be told which one it is."""
    able = [column for column in columns if column.images]
    able = [column for column in able if column.image] or able
    return _usual(able, IMAGE_NAMES) or _only(able)


def url_column(columns: Sequence[Column], images: Images) -> Column:
    """The column of addresses. Raises ConfigError."""
    if images.url_column:
        return named(columns, images.url_column, "url_column")
    column = find_url(columns)
    if column is None:
        raise ConfigError(f"No column has a usual name for the addresses of images. {_choose(columns, 'url')}")
    return column


def find_url(columns: Sequence[Column]) -> Column | None:
    """The column of addresses; None when none has a usual name."""
    return _usual([column for column in columns if column.kind in ("text", "other")], URL_NAMES)


def key_column(columns: Sequence[Column], images: Images) -> Column | None:
    """The column that names the images; None: they are named by file and row. Raises ConfigError for an unknown one."""
    if images.key_column:
        return named(columns, images.key_column, "key_column")
    return _usual([column for column in columns if column.kind in ("text", "other")], KEY_NAMES)


def field_columns(columns: Sequence[Column], images: Images) -> list[Column]:
    """The columns that go with each image. Raises ConfigError for an unknown one."""
    return [named(columns, name, "fields") for name in images.fields]


def hash_column(columns: Sequence[Column]) -> Column | None:
    """The column that says the images' hashes."""
    return next((column for column in columns if column.name == HASH_NAME), None)


def named(columns: Sequence[Column], name: str, setting: str) -> Column:
    """The column of that name. Raises ConfigError with the nearest one."""
    found = [column for column in columns if column.name == name]
    if len(found) > 1:
        raise ConfigError(f"The table has {len(found)} columns {name!r}. Rename all but one.")
    if found:
        return found[0]
    near = difflib.get_close_matches(name, [column.name for column in columns], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"`{setting}` names the column {name!r}, which is not there.{hint} There are: {_list(columns)}.")


def item_key(text: str | None, location: Location, row: int, taken: Container[str]) -> str:
    """What the image in this row is called: `text` where it can be, else the file's path and the row."""
    if text and not text.isspace() and len(text) <= MAX_KEY and text not in taken:
        return text
    path, end = path_of(location), f"#{row}"
    while (key := path[-(MAX_KEY - len(end)) :] + end) in taken:
        end += "'"  # another row is called so, in the key column
    return key


def path_of(location: Location) -> str:
    """A file's path, as rows without names of their own are called by it."""
    if isinstance(location, HubFile | DataFile):
        return location.path
    return location.url.partition("?")[0].partition("#")[0]  # what is behind may be a password


def _usual(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    """The column with the likeliest name. Of two that differ in case only, the first."""
    known = {column.name.lower(): column for column in reversed(columns)}
    return next((known[name] for name in names if name in known), None)


def _only(columns: Sequence[Column]) -> Column | None:
    return columns[0] if len(columns) == 1 else None


def _choose(columns: Sequence[Column], what: str) -> str:
    return f"Name one with `{what}_column`; there are: {_list(columns)}."


def _list(columns: Sequence[Column]) -> str:
    names = [repr(column.name) for column in columns[:SHOWN]]
    return ", ".join(names + ["…"] * (len(columns) > SHOWN)) or "none"
