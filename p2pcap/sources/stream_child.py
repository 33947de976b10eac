"""The process that reads files with the library `datasets`: `python -m p2pcap.sources.stream_child`, run by `streamed`.

The files are strangers'. Of the library's builders only BUILDERS are used: they read one local file, and none of them
runs code that a dataset brings. A crash, a lie that makes them take memory without end, or an example that never comes
is the end of this process only.

Always holds: no image is decoded, and no path or address in the data is opened but a member of the archive itself.
"""

import glob
import hashlib
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from p2pcap.errors import ImageError
from p2pcap.project.items import MAX_FIELD, MAX_IMAGE
from p2pcap.sources.child_side import serve
from p2pcap.sources.columns import Column
from p2pcap.sources.folder import SUFFIXES
from p2pcap.sources.sidecars import as_text
from p2pcap.sources.stream_frames import (
    MAX_NAME,
    Answer,
    Done,
    Fault,
    Faulty,
    Open,
    Opened,
    Passed,
    Picture,
    Read,
    Scan,
    Seen,
    encode,
    questions,
)

ENVIRONMENT = {
    **dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"), "1"),
    **dict.fromkeys(("USE_TORCH", "USE_TF", "USE_JAX"), "0"),
    "OMP_NUM_THREADS": "1",
}
"""The library asks nobody over the network, and does not load the frameworks for computing that it finds, which would
cost 180 MB and some seconds."""

BUILDERS = ("arrow", "imagefolder", "parquet", "webdataset")
"""Builders of the library that may be asked for. Others open a folder or an address, unpickle, or have no images."""

TEXT_MEMBERS = ("json", "jsn", "text", "transcript", "txt")
"""Members of a webdataset example that the library may interpret. It would open arrays and torch's files as well."""

FAULT_CHARACTERS = 200


class Service:
    """Answers questions about one file."""

    def __init__(self) -> None:
        self._path = ""
        self._dataset: Any = None
        self._life = 0.0
        self._archive: zipfile.ZipFile | None = None

    def answer(self, frame: bytes) -> Iterator[bytes]:
        """The frames of an answer."""
        try:
            said = time.monotonic()
            for answer in self._answer(frame):
                if not isinstance(answer, Passed) or time.monotonic() >= said + self._life:
                    yield encode(answer)
                    said = time.monotonic()
        except Exception as error:  # noqa: BLE001 - the library lets through whatever those it builds on raise
            yield encode(Fault(f"{type(error).__name__}: {error}"[:FAULT_CHARACTERS]))

    def _answer(self, frame: bytes) -> Iterator[Answer]:
        match questions.decode(frame):
            case Open(path, builder, life):
                self._life = life
                yield self._open(path, builder)
            case Scan() as scan:
                yield from self._scan(scan)
                yield self._close()
            case Read() as read:
                yield from self._read(read)
                yield self._close()

    def _open(self, path: str, builder: str) -> Opened:
        if builder not in BUILDERS:
            raise ValueError("this builder is not used")
        folder = os.path.dirname(path)
        os.environ.update(ENVIRONMENT, HF_HOME=folder)
        tempfile.tempdir = folder
        import datasets
        from datasets.packaged_modules.webdataset.webdataset import WebDataset

        WebDataset.DECODERS = {name: WebDataset.DECODERS[name] for name in TEXT_MEMBERS}
        self._path = path
        self._dataset = datasets.load_dataset(
            builder,
            data_files={"train": [glob.escape(path)]},
            split="train",
            streaming=True,
            cache_dir=os.path.join(folder, "cache"),
        ).decode(False)
        return Opened(tuple(_column(name, feature) for name, feature in self._dataset.features.items()))

    def _close(self) -> Done:
        """Let go of the file."""
        if self._archive:
            self._archive.close()
        self._dataset = self._archive = None
        return Done()

    def _examples(self, columns: set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        return enumerate(self._dataset.select_columns(sorted(columns)))

    def _scan(self, scan: Scan) -> Iterator[Answer]:
        names = {scan.column, *scan.fields, *filter(None, [scan.key])}
        features = self._dataset.features
        for number, example in self._examples(names):
            yield self._seen(number, example, scan, features) or Passed(number)

    def _seen(self, number: int, example: dict[str, Any], scan: Scan, features: Any) -> Seen | None:
        """What is said of an example; None when it has no image."""
        cell = example[scan.column]
        own = self._own_name(cell)
        if self._archive_member(cell) and not _is_image(own):
            return None
        fields = {name: _text(example[name], features[name]) for name in scan.fields}
        name = _text(example[scan.key], features[scan.key]) if scan.key else own
        said = name[:MAX_NAME], {name: text for name, text in fields.items() if text}
        try:
            image = self._image(cell)
        except ImageError:
            return Seen(number, b"", 0, *said)
        return None if image is None else Seen(number, hashlib.sha256(image).digest(), len(image), *said)

    def _read(self, read: Read) -> Iterator[Answer]:
        wanted = set(read.wanted)
        for number, example in self._examples({read.column}):
            if number in wanted:
                wanted.remove(number)
                yield self._picture(number, example[read.column])
            else:
                yield Passed(number)
            if not wanted:
                return

    def _picture(self, number: int, cell: Any) -> Answer:
        try:
            image = self._image(cell)
        except ImageError as error:
            return Faulty(number, error.code, error.reason)
        return Faulty(number, "empty", "The cell is empty.") if image is None else Picture(number, image)

    def _image(self, cell: Any) -> bytes | None:
        """The image file in a cell; None when there is none. Raises ImageError."""
        image = cell.get("bytes") if isinstance(cell, dict) else cell
        if image is None and _path(cell):
            image = self._member(self._archive_member(cell))
        if image is None:
            return None
        if not isinstance(image, bytes):
            raise ImageError("gone", "The cell holds no image file.")
        if len(image) > MAX_IMAGE:
            raise ImageError("too-large", f"The image has more than {MAX_IMAGE} bytes.")
        return image

    def _archive_member(self, cell: Any) -> str:
        """The member of the archive that is meant, as the library writes it: zip://MEMBER::ARCHIVE. Else empty."""
        path, end = _path(cell), f"::{self._path}"
        return path.removeprefix("zip://").removesuffix(end) if path.startswith("zip://") and path.endswith(end) else ""

    def _member(self, name: str) -> bytes:
        """One member of the file, a zip archive. Raises ImageError."""
        if not name:
            raise ImageError("gone", "The image is not in the file itself.")
        try:
            self._archive = self._archive or zipfile.ZipFile(self._path)
            with self._archive.open(name) as member:
                return member.read(MAX_IMAGE + 1)
        except KeyError as error:
            raise ImageError("gone", "The archive has no such member.") from error
        except EOFError as error:
            raise ImageError("truncated", "The archive's member ends too early.") from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise ImageError("undecodable", "The archive's member cannot be unpacked.") from error

    def _own_name(self, cell: Any) -> str:
        """What the image's own path calls it."""
        return self._archive_member(cell) or _path(cell)


def _path(cell: Any) -> str:
    path = cell.get("path") if isinstance(cell, dict) else None
    return path if isinstance(path, str) else ""


def _is_image(member: str) -> bool:
    """Whether an archive's member is an image by its name, and not what a system put there for itself."""
    path = PurePosixPath(member)
    return path.suffix.lower() in SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _column(name: str, feature: Any) -> Column:
    """A column as `p2pcap.sources.columns` knows it."""
    from datasets import Image, Value

    if isinstance(feature, Image):
        return Column(name, "struct", image=True)
    if isinstance(feature, dict):
        return Column(name, "struct" if _is_binary(feature.get("bytes")) else "other")
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        return Column(name, "text")
    return Column(name, "bytes" if _is_binary(feature) else "other")


def _is_binary(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def _text(value: Any, feature: Any) -> str:
    """A cell as the text of a field: of a class label its name, of bytes what they say in UTF-8."""
    names = getattr(feature, "names", None)
    if names and isinstance(value, int) and 0 <= value < len(names):
        value = names[value]
    if isinstance(value, bytes):
        value = value[: 4 * MAX_FIELD].decode("utf-8", "ignore")
    try:
        return as_text(value)
    except (TypeError, ValueError, RecursionError):
        return as_text(str(value))


def main() -> None:
    """Serve the node until it closes its end."""
    serve(Service().answer)


if __name__ == "__main__":
    main()
