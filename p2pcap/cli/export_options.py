"""The options that all formats of `p2pcap export` share: which rows, and how they are told about."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pcap.cli.exits import FAILED, OK
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import quiet, result_json, say, warn
from p2pcap.cli.rows import open_source
from p2pcap.errors import QueryError
from p2pcap.export.asking import Asked
from p2pcap.export.columns import Shape
from p2pcap.export.counts import Counts

if TYPE_CHECKING:
    from p2pcap.export.source import Source

Command = TypeVar("Command", bound=Callable[..., object])

ROWS = "SELECT (SELECT count(*) FROM candidate) - (SELECT count(*) FROM superseded) AS rows"
"""About as many as an export reads: some may be of tasks that are not asked any more."""

FILTERS = (
    click.option("--stage", "stages", multiple=True, metavar="NAME", help="Only this stage; may be repeated."),
    click.option(
        "--task", "tasks", multiple=True, metavar="ID", help="Only this task (16 hex digits); may be repeated."
    ),
    click.option(
        "--prompt", "prompts", multiple=True, metavar="NAME", help="Only this prompt's answers; may be repeated."
    ),
    click.option(
        "--shard",
        "shards",
        multiple=True,
        metavar="PATTERN",
        help='Only images in files like this ("part-0001.tar", "train/*"); may be repeated.',
    ),
    click.option(
        "--author", "authors", multiple=True, metavar="PEER|NAME", help="Only by this author; may be repeated."
    ),
    click.option("--tier", type=click.IntRange(0, 2), default=0, help="Only by authors of this tier or a higher one."),
    click.option("--verified", is_flag=True, help="Only rows that a verifier found right."),
    click.option("--sealed", is_flag=True, help="Only rows that a checkpoint seals."),
    click.option(
        "--where", default="", metavar="SQL", help="Only rows for which this holds (docs/export.md, Filters)."
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many rows."),
    click.option("--errors", is_flag=True, help="Also the rows of images that could not be captioned."),
)

SHAPES = (
    click.option("--long", "shape", flag_value="long", help="One row for each answer."),
    click.option("--wide", "shape", flag_value="wide", help="One row for each image, a column for each prompt."),
    click.option("--columns", default="", metavar="A,B,…", help="Only these columns, in this order."),
)


def filters(command: Command) -> Command:
    """The options that choose rows; they come as the keywords of `asked`."""
    return _with(command, FILTERS)


def shapes(command: Command) -> Command:
    """The options that choose the columns of a table: `shape` and `columns`."""
    return _with(command, SHAPES)


def destination(what: str, *, dash: bool = False) -> Callable[[Command], Command]:
    """The argument that names what is written, `--force`, `--node`, and the forms in which `tell` says what was
    written."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def written(form: Form, destination: Path, **values: Any) -> object:
            if form == "json" and str(destination) == "-":
                raise click.UsageError("Standard output holds the export, so it has no room for --json.")
            return command(destination=destination, **values)

        force = click.option("--force", is_flag=True, help=f"Replace the {what} if it exists.")
        place = click.argument("destination", type=click.Path(path_type=Path, allow_dash=dash))
        shown = forms("Say what was written as a JSON object.")
        made: Any = place(force(node_option(shown(written))))
        return made  # type: ignore[no-any-return]  # click's decorators keep the command's type

    return decorate


def _with(command: Command, options: Any) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def asked(options: dict[str, Any]) -> Asked:
    """What the options of `filters` ask for."""
    return Asked(**options)


def table_form(shape: Shape | None, columns: str) -> dict[str, Any]:
    """What the options of `shapes` say, as tables' writers take it."""
    return {"shape": shape or "rows", "columns": tuple(name.strip() for name in columns.split(",") if name.strip())}


@contextmanager
def held_source(node: str | None) -> Iterator["Source"]:
    """The tables of the node meant, which stay as they are while the block lasts."""
    with open_source(find_node(node)) as source, source.held() as held:
        yield held


def write(
    writer: Callable[..., Counts], wanted: Asked, destination: Path, *, force: bool, node: str | None, **own: Any
) -> int:
    """Have a format's `writer` write the rows wanted, out of the tables of the node meant, with the arguments that are
    its `own`; say what was written and what was left out. Returns the exit code."""
    with held_source(node) as source:
        return write_from(source, writer, wanted, destination, force=force, **own)


def write_from(
    source: "Source", writer: Callable[..., Counts], wanted: Asked, destination: Path, *, force: bool, **own: Any
) -> int:
    """The same out of these tables. A bar of the rows that have been read is on standard error, and only where that is
    a terminal."""
    (total,) = [row["rows"] for batch in source.select(ROWS) for row in batch.to_pylist()]
    silent = quiet() or not sys.stderr.isatty()
    with click.progressbar(length=total, label="exporting", file=sys.stderr, hidden=silent) as bar:
        with _filter_named(wanted.where):
            counts = writer(source, wanted, destination, force=force, progress=bar.update, **own)
    return tell(counts, destination)


@contextmanager
def _filter_named(where: str) -> Iterator[None]:
    """What DuckDB says of a query that nobody wrote as a whole names the part that was given."""
    try:
        yield
    except QueryError as error:
        if not where:
            raise
        raise QueryError(
            f"--where {where!r} may be wrong; docs/export.md, Filters, names the columns. {error}"
        ) from error


def tell(counts: Counts, where: Path) -> int:
    """Say what was written and what was left out, in the form that was chosen. Returns the exit code."""
    if click.get_current_context().params.get("json"):
        result_json({"destination": str(where), **asdict(counts)})
    else:
        what = "to standard output" if str(where) == "-" else where
        (warn if counts.incomplete else say)(f"wrote {what}: {counts.told()}")
    return FAILED if counts.incomplete else OK
