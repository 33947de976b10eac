"""Results of queries in files: Parquet, CSV or JSON Lines, by the name's ending.

Always holds: texts stand in the file as they are; the file is there whole or not at all.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from p2pcap.cli.rows import Rows
from p2pcap.cli.values import plain
from p2pcap.errors import ConfigError
from p2pcap.export.destination import whole_path
from p2pcap.export.escape import safe_json


def check_name(path: Path) -> None:
    """Raises ConfigError for an ending that stands for no format."""
    if path.suffix.lower() not in WRITERS:
        raise ConfigError(f"{path} should end in one of {', '.join(WRITERS)}. The ending says the format.")


def write_rows(rows: Rows, path: Path, *, force: bool) -> int:
    """Write a result. Returns how many rows it has. Raises ConfigError, QueryError."""
    with whole_path(path, force=force) as part:
        return WRITERS[path.suffix.lower()](rows, part)


def _parquet(rows: Rows, path: Path) -> int:
    import pyarrow.parquet as pq

    from p2pcap.export.parquet import groups

    count = 0
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for group in groups(rows.schema, iter(rows)):
            writer.write_table(group)
            count += group.num_rows
    return count


def _csv(rows: Rows, path: Path) -> int:
    """As p2pcap.export.csv: texts in quotation marks, nothing at all for NULL."""
    count = 0
    with path.open("x", newline="", encoding="utf-8") as file:
        file.write(_line(rows.schema.names))
        for count, row in enumerate(plain(rows), start=1):  # noqa: B007 - the last value is the number of them
            file.write(_line(row))
    return count


def _line(row: Sequence[object]) -> str:
    return ",".join(map(_cell, row)) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return '"' + text.replace('"', '""') + '"'


def _jsonl(rows: Rows, path: Path) -> int:
    count = 0
    names = rows.schema.names
    with path.open("xb") as file:
        for count, row in enumerate(plain(rows), start=1):  # noqa: B007
            file.write(safe_json(msgspec.json.encode(dict(zip(names, row, strict=True)))) + b"\n")
    return count


WRITERS: dict[str, Callable[[Rows, Path], int]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
