"""Captions as the screen tells them: a row of the table, and the page of one.

Pure. Captions, keys, names and addresses are strangers' text, in these spans as they came: p2pcap_tui.words and
p2pcap_tui.rows_table clean them.
"""

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from p2pcap.cli.output import clean
from p2pcap_tui.row_lines import Column, Row
from p2pcap_tui.words import Line, Span, short

COLUMNS = (
    Column("image", 18, least=60),
    Column("caption", 20, grows=True),
    Column("author", 12, least=70),
    Column("state", 8),
    Column("made", 5, least=100),
)

HUB = "hf://datasets/"
"""How the place of a file on the Hub begins."""


class Caption(NamedTuple):
    """One row: what an author said of an image, for one stage. In the order of p2pcap_tui.caption_sql.ROWS."""

    key: str | None
    chunk: int
    item: int
    image: str | None
    stage: str
    prompts: Sequence[str]
    texts: Sequence[str]
    error: str
    reason: str
    author_name: str
    author: str
    time: int
    sealed: int | None
    right: bool
    wrong: bool
    superseded: bool
    url: str | None
    file: str | None

    @property
    def id(self) -> str:
        """What tells it from all others."""
        return f"{self.stage} {self.chunk}/{self.item} {self.author} {self.time}"

    @property
    def name(self) -> str:
        """The image's key, or its place while the item list is not here."""
        return self.key or f"{self.chunk}/{self.item}"

    @property
    def said(self) -> str:
        """All its answers, a line each, without what a terminal or a shell would act on."""
        return "\n".join(map(clean, self.texts))

    @property
    def hash(self) -> str:
        """SHA-256 of the image file in hex; empty where the image never came."""
        return self.image if self.image and self.image.strip("0") else ""


def captions(rows: Sequence[Sequence[Any]]) -> list[Caption]:
    """The rows of a SELECT of p2pcap_tui.caption_sql."""
    return [Caption(*row) for row in rows]


def state(caption: Caption) -> Span:
    """What came of it, in a word."""
    if caption.wrong:
        return "wrong", "bad"
    if caption.superseded:
        return "not used", "dim"
    if caption.error:
        return "error", "bad"
    if caption.right:
        return "checked", "good"
    return ("sealed", "accent") if caption.sealed is not None else ("new", "")


def caption_row(caption: Caption) -> Row:
    """The table's row."""
    text = caption.error + ": " + caption.reason if caption.error else " / ".join(caption.texts)
    name = caption.name
    cells: tuple[Span, ...] = (
        (name if len(name) <= 18 else f"…{name[-17:]}", "dim"),
        (text, "bad" if caption.error else ""),
        (caption.author_name or short(caption.author), ""),
        state(caption),
        (_time(caption.time, "%H:%M"), "dim"),
    )
    return Row(caption.id, cells)


def caption_page(caption: Caption) -> list[Line]:
    """All of one caption."""
    word, style = state(caption)
    told = f"  chunk {caption.chunk}, image {caption.item}, stage {caption.stage}"
    lines: list[Line] = [[(caption.name, "strong"), (told, "dim")]]
    if caption.error:
        lines.append([(f"! {caption.error}: ", "bad"), (caption.reason, "")])
    for prompt, text in zip(caption.prompts, caption.texts, strict=False):
        lines.append([(f"{prompt}: ", "accent"), (text, "")])
    sealed = f", sealed by checkpoint {caption.sealed}" if caption.sealed is not None else ""
    name = f"{caption.author_name} " if caption.author_name else ""
    lines += [
        [("by ", "dim"), (name, "strong"), (caption.author, "dim")],
        [(word, style), (f"{sealed}, {_time(caption.time, '%Y-%m-%d %H:%M UTC')}", "dim")],
    ]
    if place := caption.url or caption.file:
        lines.append([("from ", "dim"), (place, "dim")])
    return lines


def address(caption: Caption) -> str:
    """Where a browser can look at the image, or its file on the Hub; empty where that is nowhere. An item list may name
    any address: only the web's are given to a browser."""
    place = caption.url or caption.file or ""
    if place.startswith(HUB) and "@" in place:
        repository, _, rest = place.removeprefix(HUB).partition("@")
        revision, _, path = rest.partition("/")
        place = f"https://huggingface.co/datasets/{repository}/blob/{revision}/{path}"
    try:
        parts = urlsplit(place)
    except ValueError:
        return ""
    plain = all(letter.isprintable() and not letter.isspace() for letter in place)
    return place if parts.scheme in ("http", "https") and parts.hostname and plain else ""


def _time(seconds: int, form: str) -> str:
    """A time that its author signed, which may be any number."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):{form}}"
    except (OverflowError, OSError, ValueError):
        return "?"
