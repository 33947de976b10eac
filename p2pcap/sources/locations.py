"""Where a file of images is, as manifests write it: on the Hub, on the web, or with those who have the data folder.

    hf://datasets/OWNER/NAME@REVISION/PATH   a file of a Hub repository at a commit (40 hex digits)
    https://… or http://…                    a file on the web
    file:PATH                                a file in the maintainer's data folder, by its path in it

The text comes from strangers. Always holds: a `Location` that was parsed names no parent folder, no absolute path, no
control character, and on the Hub no moving branch.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from p2pcap.errors import SourceError
from p2pcap.project.items import FOLDER

HUB = re.compile(
    r"hf://(datasets|models)/([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})@([0-9a-f]{40})/(.+)", re.ASCII | re.S
)
FILE = FOLDER
WEB = ("http", "https")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class HubFile:
    """A file in a repository on the Hub, pinned to a commit. `kind` is "datasets" or "models"."""

    kind: str
    repo: str
    revision: str
    path: str

    def __str__(self) -> str:
        return f"hf://{self.kind}/{self.repo}@{self.revision}/{self.path}"


@dataclass(frozen=True)
class WebFile:
    """A file at a URL."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def host(self) -> str:
        """The host's name, in lower case, without its port."""
        return (urlsplit(self.url).hostname or "").lower()


@dataclass(frozen=True)
class DataFile:
    """A file in the data folder, by its path in it ("/" between the parts)."""

    path: str

    def __str__(self) -> str:
        return FILE + self.path


Location = HubFile | WebFile | DataFile


def parse(text: str) -> Location:
    """The location that `text` names. Raises SourceError when it names none."""
    if text.startswith("hf://"):
        return _hub(text)
    if text.startswith(FILE):
        return DataFile(_path(text.removeprefix(FILE)))
    return _web(text)


def _hub(text: str) -> HubFile:
    found = HUB.fullmatch(text)
    if found is None:
        raise SourceError("A file on the Hub is not named as hf://datasets/OWNER/NAME@COMMIT/PATH.")
    kind, owner, name, revision, path = found.groups()
    return HubFile(kind, f"{owner}/{name}", revision, _path(path))


def _web(text: str) -> WebFile:
    try:
        parts = urlsplit(text)
        fits = parts.scheme.lower() in WEB and bool(parts.hostname) and parts.username is None
        parts.port  # noqa: B018 (raises ValueError for a port that is none)
    except ValueError:
        fits = False
    if not fits or CONTROL.search(text):
        raise SourceError("A place of images is no http or https address.")
    return WebFile(text)


def _path(path: str) -> str:
    """A relative path that stays where it is. It may hold anything else that a file's name may hold."""
    parts = path.split("/")
    if "\x00" in path or any(part in ("", ".", "..") for part in parts):
        raise SourceError("A file's path leaves its folder, or has empty parts.")
    return path
