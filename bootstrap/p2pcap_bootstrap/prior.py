"""Captions that images have already, read from what other programs wrote.

CaptionFlow's exports (JSON Lines, CSV, Parquet, Lance), kohya's metadata JSON, the `metadata.jsonl` and `.csv` of an
image folder, webshart's indexes, and p2pcap's own lines: rows that name an image, with one text or a list of them.
Files of text beside the images need no reading here: planning finds them itself.

Always holds: at most MAX_LINE bytes are in memory for a line, and one batch of a table; what is no text is left out.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2pcap.errors import ConfigError

NAMES = ("filename", "file_name", "key", "path", "image", "image_path", "url")
"""Columns that name the image, the most telling first."""

CAPTIONS = ("captions", "caption", "text")
"""Columns that hold what is imported unless the user names one."""

MAX_LINE = 16 * 1024 * 1024
MAX_JSON = 1024 * 1024 * 1024
"""Bytes of a whole JSON file: kohya's has all images in one object."""


@dataclass(frozen=True)
class Prior:
    """What a row says: the image's name, a path or an address, and its texts, none of them blank."""

    name: str
    texts: tuple[str, ...]


def read(path: Path, column: str | None = None) -> Iterator[Prior]:
    """The captions in a file, or in a folder that is a Lance dataset; `column` is where they are. Raises ConfigError
    for what cannot be read, or has no such column."""
    if path.is_dir():
        rows = _lance(path)
    else:
        kinds = {".jsonl": _lines, ".json": _json, ".parquet": _parquet, ".csv": _csv}
        if path.suffix.lower() not in kinds:
            raise ConfigError(f"{path} is none of {', '.join(kinds)}, nor a Lance folder. Name a file of captions.")
        rows = kinds[path.suffix.lower()](path)
    try:
        yield from _priors(path, rows, column)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Check it.") from error


def _priors(path: Path, rows: Iterable[Mapping[str, Any]], column: str | None) -> Iterator[Prior]:
    names: Sequence[str] = (column,) if column else CAPTIONS
    known = False
    for row in rows:
        known = known or any(name in row for name in names)
        name = next((str(row[one]) for one in NAMES if row.get(one)), "")
        texts = next((found for one in names if (found := _texts(row.get(one)))), ())
        if name and texts:
            yield Prior(name, texts)
    if not known:
        raise ConfigError(f"{path} has no column {' or '.join(names)}. Name the one with the captions: --column NAME")


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(text.strip() for text in values if isinstance(text, str) and text.strip())


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
            if len(line) > MAX_LINE:
                raise ConfigError(f"{path}, line {number} has over {MAX_LINE} bytes. It is no file of captions.")
            if line.strip():
                yield _object(line, f"{path}, line {number}")


def _json(path: Path) -> Iterator[Mapping[str, Any]]:
    """One image's row, an array of rows, or an object with a row for each image: kohya's, or webshart's under files."""
    if path.stat().st_size > MAX_JSON:
        raise ConfigError(f"{path} has over {MAX_JSON} bytes. Write its rows as lines of JSON.")
    try:
        found = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}. Check it.") from error
    if isinstance(found, list):
        yield from (row for row in found if isinstance(row, dict))
    elif isinstance(found, dict) and any(name in found for name in NAMES) and any(name in found for name in CAPTIONS):
        yield found
    elif isinstance(found, dict):
        files = found.get("files", found)
        rows = files.items() if isinstance(files, dict) else ()
        yield from ({**row, "filename": name} for name, row in rows if isinstance(row, dict))


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(MAX_LINE)
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = [
                name for name in file.schema_arrow.names if not pa.types.is_binary(file.schema_arrow.field(name).type)
            ]
            for batch in file.iter_batches(1_024, columns=wanted):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {error}. Check it.") from error


def _lance(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import lance
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path} is a folder, and reading Lance needs pylance. Install p2pcap[lance].") from error
    try:
        batches = lance.dataset(str(path)).to_batches()
        for batch in batches:
            yield from batch.to_pylist()
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} is no Lance dataset: {error}.") from error


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where} is not JSON: {error}. Check the file.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{where} is no JSON object. Check the file.")
    return found
