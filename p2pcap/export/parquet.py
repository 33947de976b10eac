"""Parquet: the table for programs, typed and compressed.

Always holds: the bytes depend on the rows and on the version of pyarrow alone, so row groups are cut by row numbers;
memory is that of one row group. Answers and metadata are lists of structures: readers of Parquet know these, and not
all of them know maps.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2pcap.export.ahead import reading_ahead
from p2pcap.export.asking import Asked
from p2pcap.export.attaching import attach
from p2pcap.export.columns import Column, Shape, Table, aliased, table
from p2pcap.export.counts import Counts, counted
from p2pcap.export.destination import whole_path
from p2pcap.export.lines import Progress
from p2pcap.export.present import NEEDED, Presence
from p2pcap.export.section import KEY, PLACEHOLDER
from p2pcap.export.source import ALL_CHUNKS, Source

ROW_GROUP = 32_768
"""Rows of a row group: captions of 400 letters make 13 MB of it."""

LEVEL = 1
"""Of zstandard. Level 3 makes a million captions of 300 letters a fifth smaller, and packs them in 3 s instead of 2."""

SQL: dict[str, str] = {
    "answers": """CASE WHEN error IS NULL THEN [
        {{'prompt': prompts[i], 'text': texts[i], 'tokens': counts[i], 'finish': finishes[i]}}
        FOR i IN range(1, len(texts) + 1)] END""",
    "fields": "[{{'name': e.key, 'value': e.value}} FOR e IN map_entries({sql})]",
}


def write_parquet(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    shape: Shape = "rows",
    columns: Sequence[str] = (),
    force: bool = False,
    progress: Progress = lambda rows: None,
    chunks: tuple[int, int] = ALL_CHUNKS,
) -> Counts:
    """Write the rows asked for of the chunks from the first to the last of `chunks`; from a source that is `held`, as
    what proves them is asked for after them. Raises ConfigError, QueryError, StoreError."""
    found = table(source, asked, shape, columns, selected)
    counts = Counts()
    provable = not unproven(asked, shape, columns)
    present = Presence()
    with whole_path(destination, force=force) as path:
        with source.parts(found.sql, found.order, chunks) as rows, reading_ahead(rows) as ahead:
            batches = counted(ahead, counts, asked.limit, progress)
            said = {KEY: PLACEHOLDER} if provable else {}
            _write(path, own_schema(rows.schema, found), present.noted(batches) if provable else batches, said)
        if provable:
            attach(path, source.select, present.found)
    return counts


def unproven(asked: Asked, shape: Shape, chosen: Sequence[str]) -> str:
    """The option that leaves out what an author signed, so that such rows cannot carry their proof; empty where none
    does."""
    if shape != "rows":
        return f"--{shape}"
    if asked.prompts:
        return "--prompt"
    missing = [name for name in NEEDED if chosen and name not in chosen]
    return f"--columns without {', '.join(missing)}" if missing else ""


def selected(columns: Sequence[Column]) -> str:
    """SQL: the columns as Parquet has them."""
    return ", ".join(aliased(SQL.get(column.kind, "{sql}").format(sql=column.sql), column) for column in columns)


def own_schema(schema: Any, found: Table) -> Any:
    """The columns that are written, without what the SELECT has beside them."""
    import pyarrow as pa

    return pa.schema([schema.field(place) for place, _ in enumerate(found.columns)])


def _write(path: Path, schema: Any, batches: Iterator[Any], said: dict[str, str]) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=LEVEL) as writer:
        if said:
            writer.add_key_value_metadata(said)
        for group in groups(schema, batches):
            writer.write_table(group, row_group_size=ROW_GROUP)


def groups(schema: Any, batches: Iterator[Any]) -> Iterator[Any]:
    """The rows as tables of ROW_GROUP rows, the last one shorter; none where there are no rows. Each is in one piece:
    where pyarrow cuts pages depends on the pieces, and these on how DuckDB's threads took turns."""
    import pyarrow as pa

    waiting: list[Any] = []
    rows = 0
    for batch in batches:
        while batch.num_rows:
            part = batch.slice(0, ROW_GROUP - rows)
            waiting.append(part)
            rows += part.num_rows
            batch = batch.slice(part.num_rows)
            if rows == ROW_GROUP:
                yield pa.Table.from_batches(waiting, schema).combine_chunks()
                waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema).combine_chunks()
