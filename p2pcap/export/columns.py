"""The columns of exported tables, and the SELECT that makes them, in each of three shapes.

"rows": one row for each stage and image; "long": one for each answer; "wide": one for each image, with a column for
each prompt. Formats write some kinds of value each in their own way, so a column says its kind beside its SQL.

Always holds: the names depend on the project's stages and on what was asked for alone, never on the rows.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from p2pcap.errors import ConfigError
from p2pcap.export.asking import Asked
from p2pcap.export.source import Order, Source
from p2pcap.export.sql import literal, name

Shape = Literal["rows", "long", "wide"]
Kind = Literal["text", "plain", "time", "answers", "fields", "list"]
"""What a column holds: strangers' text; a number, a boolean or letters and digits alone; a time; the answers of a row;
a map of metadata; a list of texts."""


@dataclass(frozen=True)
class Column:
    """A column: its name, its kind, and the SQL of its value."""

    name: str
    kind: Kind
    sql: str


@dataclass(frozen=True)
class Table:
    """What to write: the columns, and the SELECT that gives them, rendered, before the columns of HIDDEN."""

    columns: tuple[Column, ...]
    sql: str
    order: Order


Render = Callable[[Sequence[Column]], str]
"""A format's way to make its SELECT's list out of columns."""


def _columns(kind: Kind, *names: str) -> list[Column]:
    return [Column(one, kind, one) for one in names]


IMAGE = [
    *_columns("text", "key", "url", "file"),
    *_columns("plain", "place", "image", "chunk", "item"),
]
MADE = [
    *_columns("text", "error", "reason"),
    *_columns("plain", "author"),
    *_columns("text", "author_name", "model"),
    *_columns("plain", "engine"),
    Column("time", "time", "time"),
    *_columns("plain", "statement", "sealed", "tier", "verified"),
]
STAGE = [*_columns("text", "stage"), *_columns("plain", "task")]
FIELDS = _columns("fields", "fields")
ROWS = [
    *IMAGE,
    *STAGE,
    *_columns("text", "caption"),
    *_columns("answers", "answers"),
    *_columns("plain", "tokens", "finish"),
    *FIELDS,
    *MADE,
]
LONG = [
    *IMAGE,
    *STAGE,
    Column("prompt", "text", "prompts[number]"),
    Column("text", "text", "texts[number]"),
    Column("tokens", "plain", "counts[number]"),
    Column("finish", "plain", "finishes[number]"),
    *FIELDS,
    *MADE,
]
ONE_ROW_AN_ANSWER = (
    "(SELECT * FROM {rows}, unnest(CASE WHEN len(texts) = 0 THEN [0] ELSE range(1, len(texts) + 1) END) t(number))"
)

STAGES = "SELECT stage, place, prompts FROM task WHERE place IS NOT NULL ORDER BY place"

HIDDEN_OF_ROWS = "skip, error IS NOT NULL AS failed, chunk, item"
HIDDEN_OF_IMAGES = """CASE WHEN count_if(skip IS NULL) = 0 THEN min(skip) END AS skip,
    count_if(skip IS NULL AND error IS NULL) = 0 AS failed, chunk, item"""


def table(source: Source, asked: Asked, shape: Shape, chosen: Sequence[str], render: Render) -> Table:
    """The columns named in `chosen`, or all, in the shape. Raises ConfigError for a name that there is not."""
    if shape == "wide":
        columns = _chosen(_wide(source, asked), chosen)
        sql = (
            f"SELECT {render(columns)}, {HIDDEN_OF_IMAGES} FROM {asked.rows} GROUP BY chunk, item ORDER BY chunk, item"
        )
        return Table(columns, sql, "image")
    columns = _chosen(LONG if shape == "long" else ROWS, chosen)
    rows = ONE_ROW_AN_ANSWER.format(rows=asked.rows) if shape == "long" else asked.rows
    sql = f"SELECT {render(columns)}, {HIDDEN_OF_ROWS} FROM {rows}"
    if shape == "long":
        return Table(columns, f"{sql} ORDER BY chunk, item, number", "answer")
    return Table(columns, sql, "task")


def _chosen(columns: Sequence[Column], chosen: Sequence[str]) -> tuple[Column, ...]:
    by_name = {column.name: column for column in columns}
    if unknown := [one for one in chosen if one not in by_name]:
        raise ConfigError(f"There is no column {unknown[0]!r}. Choose among: {', '.join(by_name)}.")
    return tuple(by_name[one] for one in chosen) or tuple(columns)


def _wide(source: Source, asked: Asked) -> list[Column]:
    """A column for each prompt, named as the prompt; as STAGE.PROMPT where that alone is not clear."""
    taken = [
        (stage, place, prompt)
        for stage, place, prompts in _stages(source)
        for prompt in prompts
        if stage in (asked.stages or (stage,)) and prompt in (asked.prompts or (prompt,))
    ]
    images = [Column(one.name, one.kind, f"any_value({one.sql})") for one in [*IMAGE, *FIELDS]]
    times_used = Counter(
        [prompt for _, _, prompt in taken] + [column.name for column in images] + ["authors", "errors"]
    )
    answers = [
        Column(prompt if times_used[prompt] == 1 else f"{stage}.{prompt}", "text", _answer(place, prompt))
        for stage, place, prompt in taken
    ]
    authors = Column("authors", "list", "list_sort(list(DISTINCT author) FILTER (skip IS NULL))")
    errors = Column("errors", "list", "list_sort(list(DISTINCT error) FILTER (skip IS NULL AND error IS NOT NULL))")
    return [*images[:-1], *answers, images[-1], authors, errors]


def _answer(place: int, prompt: str) -> str:
    found = f"texts[list_position(prompts, {literal(prompt)})]"
    return f"any_value({found}) FILTER (skip IS NULL AND stage_no = {place} AND len(texts) > 0)"


def _stages(source: Source) -> list[tuple[str, int, list[str]]]:
    return [
        (row["stage"], row["place"], row["prompts"]) for batch in source.select(STAGES) for row in batch.to_pylist()
    ]


def aliased(sql: str, column: Column) -> str:
    """The SQL under the column's name."""
    return f"{sql} AS {name(column.name)}"
