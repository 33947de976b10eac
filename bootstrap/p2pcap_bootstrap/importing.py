"""Puts captions that other programs made beside the images of a folder, where planning reads them as fields.

Each image gets a JSON file of its name with one field more. `images.fields`, `caption_field` and `captioned` of
project.yaml say then what becomes of images that have one: captioned too, anew, or left out.

Always holds: no caption goes to an image that might be another: a name has to mean one image. A field that is there
stays, unless it is to be replaced; other fields of the file always stay.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_FIELD
from p2pcap.sources.folder import SUFFIXES
from p2pcap.sources.sidecars import MAX_SIDECAR
from p2pcap.whole_file import replace_whole
from p2pcap_bootstrap.folder import refusals
from p2pcap_bootstrap.prior import Prior


@dataclass
class Imported:
    """What became of the rows: `written` beside images; `kept`, because the image has such a field; `missing`, because
    no image has that name; `unclear`, because several have."""

    written: int = 0
    kept: int = 0
    missing: int = 0
    unclear: int = 0


class Images:
    """The images below a folder, by what may name them: path, path without suffix, name, name without suffix."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError when there is no such folder, or no image in it."""
        self._by_name: dict[str, set[Path]] = {}
        count = 0
        for path in _below(folder):
            count += 1
            inner = PurePosixPath(path.relative_to(folder).as_posix())
            for name in {str(inner), str(inner.with_suffix("")), inner.name, inner.stem}:
                self._by_name.setdefault(name, set()).add(path)
        if not count:
            raise ConfigError(f"There are no images in {folder}. Name the folder that project.yaml names.")

    def named(self, name: str) -> set[Path]:
        """The images that a row's name may mean, by the most telling way that finds any."""
        path = PurePosixPath(unquote(urlsplit(name).path) if "://" in name else name.replace("\\", "/"))
        if not path.name:
            return set()
        for way in (str(path), str(path.with_suffix("")), path.name, path.stem):
            if found := self._by_name.get(way):
                return found
        return set()


def put_beside(
    priors: Iterable[Prior], images: Images, field: str, *, replace: bool = False, dry_run: bool = False
) -> Imported:
    """Write each caption into the JSON file beside its image. Several texts of an image become one, a line each. Raises
    ConfigError for a file that cannot be written, or holds something else."""
    done = Imported()
    for prior in priors:
        found = images.named(prior.name)
        if len(found) != 1:
            done.missing += not found
            done.unclear += bool(found)
            continue
        (image,) = found
        path = image.with_suffix(".json")
        fields = _fields(path)
        if fields.get(field) and not replace:
            done.kept += 1
            continue
        done.written += 1
        if not dry_run:
            told = fields | {field: "\n".join(prior.texts)[:MAX_FIELD]}
            with refusals(path.parent):
                replace_whole(path, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    return done


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if os.path.splitext(name)[1].lower() in SUFFIXES)


def _fields(path: Path) -> dict[str, Any]:
    try:
        if not path.exists():
            return {}
        data = path.read_bytes() if path.stat().st_size <= MAX_SIDECAR else b""
        found = msgspec.json.decode(data)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} is there and cannot be read as JSON: {error}. Move it away.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is there and is no JSON object. Move it away.")
    return found
