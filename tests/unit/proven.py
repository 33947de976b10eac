"""Parquet files with their proof, of databases that tests made."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from p2pcap.cli.nodes import Target
from p2pcap.cli.rows import open_source
from p2pcap.export.asking import Asked
from p2pcap.export.parquet import write_parquet
from p2pcap.export.section import KEY, PLACEHOLDER, SectionWriter, open_section
from p2pcap.export.source import Source


def sourced(database: Path) -> AbstractContextManager[Source]:
    """A closed database as exports read it."""
    return open_source(Target(database.parent, None))


def written(database: Path, path: Path, where: str = "") -> Path:
    """The captions of a database, error rows as well, as a Parquet file with its proof."""
    with sourced(database) as source:
        write_parquet(source, Asked(where=where, errors=True), path)
    return path


def plain(table: Any, path: Path, groups: int = 37, value: str = PLACEHOLDER) -> None:
    """A table as a Parquet file with this text in its footer."""
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.add_key_value_metadata({KEY: value})
        writer.write_table(table, row_group_size=groups)


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]] | None]) -> Path:
    """The file with other rows, its proof put in again and its digest made anew: what somebody who cheats would do."""
    section = open_section(path)
    parts = section.contents
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows = change(rows) or rows
    other = path.with_name("changed.parquet")
    plain(pa.Table.from_pylist(rows, table.schema), other)
    with SectionWriter(other) as writer:
        moved = {each: writer.put_raw(section.raw(each)) for each in _parts(parts)}
        writer.finish(_moved(parts, moved))
    return other


def _parts(contents: Any) -> list[Any]:
    held = (*contents.lists, *contents.groups)
    return [contents.project, contents.statements, contents.seals, *contents.pages, *(each.part for each in held)]


def _moved(contents: Any, moved: dict[Any, Any]) -> Any:
    return replace(
        contents,
        project=moved[contents.project],
        statements=moved[contents.statements],
        seals=moved[contents.seals],
        pages=tuple(moved[each] for each in contents.pages),
        lists=tuple(replace(each, part=moved[each.part]) for each in contents.lists),
        groups=tuple(replace(each, part=moved[each.part]) for each in contents.groups),
    )
