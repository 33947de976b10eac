"""A Lance dataset: the table in the form that LanceDB and the tools around it read. Needs the extra `lance`.

Lance gives its files random names, so two exports of one ledger hold equal rows in other files. Always holds: the
folder is there whole or not at all.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pcap.errors import ConfigError
from p2pcap.export.ahead import reading_ahead
from p2pcap.export.asking import Asked
from p2pcap.export.columns import Shape, table
from p2pcap.export.counts import Counts, counted
from p2pcap.export.destination import write_errors
from p2pcap.export.parquet import groups, own_schema, selected
from p2pcap.export.source import Source


def write_lance(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    shape: Shape,
    columns: Sequence[str],
    force: bool,
    progress: Callable[[int], None],
) -> Counts:
    """Write the rows asked for into the folder `destination`. Raises ConfigError, QueryError, StoreError."""
    try:
        import lance
    except ModuleNotFoundError as error:
        raise ConfigError("The library for Lance is not installed. Install it: pip install 'p2pcap[lance]'") from error
    import pyarrow as pa

    check_folder(destination, force=force)
    found = table(source, asked, shape, columns, selected)
    counts = Counts()
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    replaced = destination.with_name(f".{destination.name}.{os.getpid()}.old")
    with source.parts(found.sql, found.order) as rows, reading_ahead(rows) as found_batches, write_errors(destination):
        schema = own_schema(rows.schema, found)
        tables = groups(schema, counted(found_batches, counts, asked.limit, progress))
        batches = (batch for group in tables for batch in group.to_batches())
        try:
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), temporary)
            if destination.exists():
                destination.rename(replaced)
            temporary.rename(destination)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
    return counts


def check_folder(destination: Path, *, force: bool) -> None:
    """Raises ConfigError unless a new folder may be made there; only a dataset of Lance is replaced."""
    if destination.exists() and not (force and (destination / "_versions").is_dir()):
        raise ConfigError(f"{destination} exists already. Name another folder, or add --force to replace a dataset.")
