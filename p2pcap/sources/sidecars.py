"""What lies beside an image and says something of it: a caption in a text file, a JSON object.

Always holds: of a file at most MAX_SIDECAR bytes are read; what is handed on is text within the limits of an item's
fields, and never blank.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_FIELD

MAX_SIDECAR = 1024 * 1024
"""Bytes of a file beside an image."""

TEXTS: Mapping[str, tuple[str, ...]] = {"caption": (".caption", ".txt"), "txt": (".txt",)}
"""Fields that are the whole text of a file, and the suffixes it may have in the image's place; the first wins."""


def as_text(value: object) -> str:
    """A value of a dataset as the text of a field: text as it is, everything else as JSON; empty for nothing."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().removeprefix("null")
    return text.strip()[:MAX_FIELD]


def json_fields(data: bytes, names: Iterable[str]) -> dict[str, str]:
    """Those of `names` that the JSON object in `data` has, as text. Raises ValueError when it is no JSON object."""
    try:
        found = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    texts = {name: as_text(found.get(name)) for name in names}
    return {name: text for name, text in texts.items() if text}


def beside(image: Path, names: Iterable[str], follow_symlinks: bool) -> dict[str, str]:
    """Those of the fields `names` that the files beside `image` have: NAME.caption and NAME.txt, then NAME.json.

    Raises ConfigError for a file that is too large, or not what its name says.
    """
    found = {name: text for name in names if (text := _text(image, TEXTS.get(name, ()), follow_symlinks))}
    if missing := [name for name in names if name not in found]:
        path = image.with_suffix(".json")
        data = _read(path, follow_symlinks)
        try:
            found |= json_fields(data, missing) if data is not None else {}
        except ValueError as error:
            raise ConfigError(f"{path} cannot be used: {error}. Mend it, or move it away.") from error
    return {name: found[name] for name in names if name in found}


def _text(image: Path, suffixes: Iterable[str], follow_symlinks: bool) -> str:
    for suffix in suffixes:
        path = image.with_suffix(suffix)
        data = _read(path, follow_symlinks)
        try:
            text = as_text(data.decode("utf-8-sig")) if data is not None else ""
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is no text in UTF-8. Mend it, or move it away.") from error
        if text:
            return text
    return ""


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
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check its owner and mode.") from error
    if len(data) > MAX_SIDECAR:
        raise ConfigError(f"{path} has over {MAX_SIDECAR} bytes: too much to describe an image. Move it away.")
    return data
