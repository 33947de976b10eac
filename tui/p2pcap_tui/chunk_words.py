"""What the screen of the work says in words: the legend of the map, the table of claims, who did a chunk.

Pure. Strangers' names are in these spans as they came: p2pcap_tui.words and p2pcap_tui.rows_table clean them.
"""

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from p2pcap.cli.amounts import duration
from p2pcap.node.chunk_map import LETTERS, ChunkClaim, ChunkMap
from p2pcap_tui.chunk_cells import legend
from p2pcap_tui.row_lines import Column, Row
from p2pcap_tui.words import Line, Span, bar, number, short

STYLES = {"free": "dim", "begun": "strong", "claimed": "warn", "done": "", "checked": "good", "failed": "bad"}
"""The style of each word of LETTERS."""

CLAIMS = (
    Column("chunk", 7, right=True, sort="chunk"),
    Column("who", 16, grows=True, sort="who"),
    Column("done", 11, right=True),
    Column("progress", 12, least=60),
    Column("lease left", 10, right=True, sort="lease"),
    Column("state", 9, least=60),
    Column("stage", 10, least=90),
)

RESULTS = """
WITH made AS (
    SELECT c.no, min(c.item) AS first, max(c.item) AS last, count(*) AS items, count(s.no) AS unused
    FROM candidate c LEFT JOIN superseded s ON s.no = c.no AND s.item = c.item
    WHERE c.chunk = {chunk} GROUP BY c.no)
SELECT a.name, a.peer_id, m.first, m.last, m.items, m.unused, bit_count(r.errors) AS errors,
    bit_count(r.confirmed) AS "right", bit_count(r.failed) AS wrong, r.sealed, b.time
FROM made m JOIN batch b USING (no) JOIN author a USING (author_no) JOIN standing r USING (no)
    JOIN task t USING (task_no)
WHERE t.stage = {stage} AND t.place IS NOT NULL
ORDER BY m.first, b.time, b.no LIMIT 300"""
"""SQL: the results for a chunk of a stage, in the order of their images."""


def legend_lines(found: ChunkMap, stage: int, chunk: int, each: int, width: int = 80) -> list[Line]:
    """Which stage is shown, number `stage` of them, and its chunks by state, in `width` columns; the cursor is on
    `chunk`, and a cell is `each` chunks."""
    if not found.stages:
        return [[(" no chunks yet", "dim")]]
    stages = found.stages
    here = stages[stage % len(stages)]
    which = f" ({stage % len(stages) + 1} of {len(stages)})" if len(stages) > 1 else ""
    where = f"{which}: chunk {number(chunk)} of {number(len(here.letters))}"
    cells = f", {each} a cell" if each > 1 else ""
    lines: list[list[Span]] = [[(f" {here.stage}", "strong"), (where + cells, "")], []]
    for glyph, letter, count in legend(here.letters):
        word = LETTERS[letter]
        part = f" {glyph} {word} {number(count)}"
        if sum(len(text) + 2 for text, _ in lines[-1]) + len(part) > width:
            lines.append([])
        lines[-1].append((("  " if lines[-1] else "") + part, STYLES[word]))
    return [*lines]


def claim_rows(claims: Sequence[ChunkClaim], now: float) -> list[Row]:
    """A row for each claim, as it is at `now`."""
    return [_claim_row(claim, now) for claim in claims]


def _claim_row(claim: ChunkClaim, now: float) -> Row:
    left = max(0.0, claim.expires - now)
    state = ("lapsed", "dim") if not left else ("late", "warn") if claim.idle else ("at work", "good")
    who = f"{claim.name or short(claim.author)}{' (this node)' if claim.mine else ''}"
    cells: tuple[Span, ...] = (
        (str(claim.chunk), ""),
        (who, "strong" if claim.mine else ""),
        (f"{claim.done}/{claim.images}", ""),
        (bar(claim.done, claim.images, 12), "accent"),
        (duration(left), "warn" if left < 15 else ""),
        state,
        (claim.stage, "dim"),
    )
    return Row(f"{claim.author} {claim.stage} {claim.chunk}", cells)


SORTS: dict[str, Callable[[ChunkClaim], Any]] = {
    "chunk": lambda claim: claim.chunk,
    "who": lambda claim: (claim.name or claim.author).casefold(),
    "lease": lambda claim: claim.expires,
}
"""What the table of claims can be sorted by."""


def chunk_page(chunk: int, stage: str, letter: str, claims: Sequence[ChunkClaim], now: float) -> list[Line]:
    """What the map itself knows of a chunk: its state, and who is at work on it."""
    word = LETTERS.get(letter, "")
    lines: list[Line] = [[(f" Chunk {chunk}", "strong"), (f"  {stage}  ", "dim"), (word, STYLES.get(word, ""))]]
    for claim in claims:
        if (claim.chunk, claim.stage) == (chunk, stage):
            told = f"  {claim.done}/{claim.images}, lease {duration(max(0.0, claim.expires - now))}"
            who = claim.name or short(claim.author)
            lines.append([(" claimed by ", "dim"), (who, "strong"), (f" {short(claim.author)}{told}", "")])
    return lines


def result_lines(rows: Sequence[Sequence[object]]) -> list[Line]:
    """The results that RESULTS found: who, when, how many images, and what came of them."""
    if not rows:
        return [[(" nobody has done any of it", "dim")]]
    return [_result_line(row) for row in rows]


def _result_line(row: Sequence[object]) -> Line:
    name, author, first, last, items, unused, errors, right, wrong, sealed, time = row
    line: list[Span] = [
        (f" {first:>5}–{last!s:<5} ", "dim"),
        (f"{name or short(str(author))} ", "strong"),
        (f"{short(str(author))}  " if name else " ", "dim"),
        (f"{_moment(_whole(time))}  {items} images", ""),
    ]
    told = (
        (errors, "errors", "bad"),
        (right, "found right", "good"),
        (wrong, "wrong", "bad"),
        (unused, "not used", "dim"),
    )
    line += [(f", {count} {word}", style) for count, word, style in told if count]
    line.append((f", sealed by {sealed}" if sealed is not None else ", not sealed yet", "dim"))
    return line


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _moment(seconds: int) -> str:
    """A time its author signed, which may be any number."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        return "at no time"
