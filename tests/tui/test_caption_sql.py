"""What a person types, in SQL, against a real database."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.store.readers import Readers
from p2pcap_tui.caption_sql import SHOWN, matching, newest, select
from p2pcap_tui.caption_words import Caption, captions
from p2pcap_tui.chunk_words import RESULTS, result_lines
from p2pcap_tui.sql_text import like, literal
from tests.tui.stored import BOB, MALLORY, NASTY, StoredFeed, stored

HOSTILE_TEXTS = [
    "'",
    "''",
    "\\'",
    "\\",
    "%",
    "_",
    "' OR '1'='1",
    "'; DROP TABLE caption; --",
    "\0'",
    "\ud800'",
    "$$",
    "?",
]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    with stored(tmp_path_factory.mktemp("captions")) as found:
        yield found


def found(readers: Readers, sql: str) -> list[Caption]:
    return captions(StoredFeed(readers).found(sql).rows)


def value(readers: Readers, sql: str) -> object:
    return StoredFeed(readers).found(sql).rows[0][0]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_text_stays_one_literal(readers: Readers, text: str) -> None:
    kept = text.replace("\0", "").replace("\ud800", "")
    assert value(readers, f"SELECT {literal(text)}") == kept
    assert value(readers, f"SELECT {literal(f'before {kept} after')} {like(text)}") is True
    assert value(readers, f"SELECT 'abc' {like(text)}") is False


@given(st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_stays_one_literal(readers: Readers, text: str) -> None:
    assert value(readers, f"SELECT {literal(text)}") == text.replace("\0", "")


def test_the_newest_come_first_each_with_what_is_known_of_it(readers: Readers) -> None:
    rows = found(readers, newest())
    assert [(row.chunk, row.item) for row in rows] == [*((0, item) for item in reversed(range(64))), (1, 1), (1, 0)]
    assert (rows[0].author_name, rows[0].prompts, rows[0].texts) == (
        "Ada", ["describe", "objects"], ["a red circle 0/63", "circle"],
    )  # fmt: skip
    error = rows[-1]
    assert (error.error, error.reason, error.author) == ("undecodable", "the bytes are no image", BOB.peer_id)
    assert not any((error.right, error.wrong, error.superseded, error.sealed))
    assert error.hash == error.image
    assert len(error.hash) == 64


def test_a_text_is_found_in_answers_keys_and_names(readers: Readers) -> None:
    assert [row.item for row in found(readers, matching("RED circle 0/6"))] == [63, 62, 61, 60, 6]
    assert [(row.chunk, row.item) for row in found(readers, matching("001/00001.png"))] == [(1, 1)]
    assert {row.author_name for row in found(readers, matching("mallory"))} == {MALLORY}
    assert len(found(readers, matching("ada"))) == 64
    assert [row.texts[0] for row in found(readers, matching("100 % 'q"))] == [f"{NASTY} 1/1"]
    assert found(readers, matching("100%'q")) == []
    assert select("") == newest()


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_what_is_sought_is_never_run(readers: Readers, text: str) -> None:
    assert len(found(readers, matching(text))) <= SHOWN


def test_who_did_a_chunk(readers: Readers) -> None:
    rows = StoredFeed(readers).found(RESULTS.format(chunk=1, stage=literal("caption"))).rows
    (line,) = result_lines(rows)
    text = "".join(text for text, _ in line)
    assert "     0–1 " in text
    assert "2 images, 1 errors, not sealed yet" in text
    assert StoredFeed(readers).found(RESULTS.format(chunk=1, stage=literal("x'y"))).rows == []
    assert result_lines([]) == [[(" nobody has done any of it", "dim")]]
