"""What lies beside an image and says something of it: a caption in a text file, a JSON object.

Always holds: of a file at most MAX_SIDECAR bytes are read; what is handed on is text within the limits of an item's
fields, and never blank.
"""

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_FIELD
from p2pcap.project.task import MAX_FIELD_NAME

MAX_SIDECAR = 1024 * 1024
"""Bytes of a file beside an image."""

TEXTS: Mapping[str, tuple[str, ...]] = {"caption": (".caption", ".txt"), "txt": (".txt",)}
"""Fields that are the whole text of a file, and the suffixes it may have in the image's place; the first wins."""


ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
"""What the system says where no file of that name can be: an image's name may have as many bytes as any may, and
another suffix makes it longer."""

MAX_NAMES = 1_000
"""Names of fields that are remembered, so that a misspelt one can be told the nearest."""


class Names:
    """Names of fields that a dataset has, as far as they were met. Safe to use from several threads."""

    def __init__(self) -> None:
        self.met: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        """Remember these, while there are not too many."""
        if len(self.met) < MAX_NAMES:
            self.met.update(name for name in names if len(name) <= MAX_FIELD_NAME)


def as_text(value: object) -> str:
    """A value of a dataset as the text of a field: text as it is, everything else as JSON; empty for nothing."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().removeprefix("null")
    return text.strip()[:MAX_FIELD]


def json_fields(data: bytes, names: Iterable[str], met: Names) -> dict[str, str]:
    """Those of `names` that the JSON object in `data` has, as text; `met` is told all that it has. Raises ValueError
    when it is no JSON object."""
    try:
        found = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    met.add(found)
    texts = {name: as_text(found.get(name)) for name in names}
    return {name: text for name, text in texts.items() if text}


def beside(image: Path, names: Iterable[str], follow_symlinks: bool, met: Names) -> dict[str, str]:
    """Those of the fields `names` that the files beside `image` have: NAME.caption and NAME.txt, then NAME.json; `met`
    is told of what was read.

    Raises ConfigError for a file that is too large, or not what its name says.
    """
    found: dict[str, str] = {}
    for name in names:
        text = _text(image, TEXTS.get(name, ()), follow_symlinks)
        met.add([name] if text is not None else [])
        found |= {name: text} if text else {}
    if missing := [name for name in names if name not in found]:
        path = image.with_suffix(".json")
        data = _read(path, follow_symlinks)
        try:
            found |= json_fields(data, missing, met) if data is not None else {}
        except ValueError as error:
            raise ConfigError(f"{path} cannot be used: {error}. Mend it, or move it away.") from error
    return {name: found[name] for name in names if name in found}


def _text(image: Path, suffixes: Iterable[str], follow_symlinks: bool) -> str | None:
    """The first text that is not blank; None where there is no such file."""
    text = None
    for suffix in suffixes:
        path = image.with_suffix(suffix)
        data = _read(path, follow_symlinks)
        try:
            text = as_text(data.decode("utf-8-sig")) if data is not None else text
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is no text in UTF-8. Mend it, or move it away.") from error
        if text:
            break
    return text


def _read(path: Path, follow_symlinks: bool) -> bytes | None:
    """The file's bytes; None where there is no such file, or only a link that is not to be followed."""
    try:
        if not follow_symlinks and path.is_symlink():
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not be waited for
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(MAX_SIDECAR + 1)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check its owner and mode.") from error
    if len(data) > MAX_SIDECAR:
        raise ConfigError(f"{path} has over {MAX_SIDECAR} bytes: too much to describe an image. Move it away.")
    return data
