"""Parquet files with their proof, of databases that tests made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from p2pcap.export.attaching import attach
from p2pcap.export.gathering import Select
from p2pcap.export.section import KEY, PLACEHOLDER, SectionWriter, open_section
from p2pcap.store.database import reading

TABLE = """
SELECT h.* EXCLUDE (answers, fields, tokens, finish), CASE WHEN h.error IS NULL THEN [
        {'prompt': t.prompts[i], 'text': c.texts[i], 'tokens': c.tokens[i], 'finish': c.finish[i]}
        FOR i IN range(1, len(c.texts) + 1)] END AS answers,
    CASE WHEN h.fields IS NOT NULL THEN [{'name': e.key, 'value': e.value} FOR e IN map_entries(h.fields)] END AS fields
FROM captions h JOIN statement s ON lower(hex(s.id)) = h.statement
    JOIN caption c ON c.no = s.no AND c.item = h.item JOIN task t USING (task_no)
"""


@contextmanager
def asking(database: Path) -> Iterator[Select]:
    """SELECTs on a closed database."""
    with reading(database) as readers, readers.lend() as cursor:

        def select(sql: str) -> Iterator[Any]:
            yield from cursor.sql(sql).to_arrow_reader(1_024)

        yield select


def written(database: Path, path: Path, where: str = "true", groups: int = 37) -> Path:
    """The captions of a database as a Parquet file with its proof; row groups of that many rows."""
    with asking(database) as select:
        batches = list(select(f"{TABLE} WHERE {where} ORDER BY h.task, h.chunk, h.item"))
        schema = next(iter(select(f"{TABLE} LIMIT 1"))).schema
        plain(pa.Table.from_batches(batches, schema), path, groups)
        attach(path, select)
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
    return [contents.project, contents.statements, contents.seals, *(each.part for each in held)]


def _moved(contents: Any, moved: dict[Any, Any]) -> Any:
    return replace(
        contents,
        project=moved[contents.project],
        statements=moved[contents.statements],
        seals=moved[contents.seals],
        lists=tuple(replace(each, part=moved[each.part]) for each in contents.lists),
        groups=tuple(replace(each, part=moved[each.part]) for each in contents.groups),
    )
