"""The table in SQL against the pure function it has to equal, for any set of results in any order."""

import hashlib
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.ledger.canonical import Batch, canonical
from p2pcap.store import canonical as stored
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutStatement, Write
from tests.unit.store_project import ADA, BOB, EVE, NOW, Sample, database, sample

PROJECT = sample(chunks=2, images=64)

Rows = dict[int, str]
"""Item to text; an empty text stands for an error."""

batches = st.builds(
    lambda author, chunk, rows, time: batch(PROJECT, author, chunk, rows, time),
    st.sampled_from([ADA, BOB, EVE]),
    st.integers(0, 1),
    st.dictionaries(st.integers(0, 11), st.sampled_from(["", "a", "b"]), min_size=1),
    st.integers(NOW, NOW + 2),
)


def batch(project: Sample, author: object, chunk: int, rows: Rows, time: int) -> PutBatch:
    made = [project.row(chunk, i, rows[i]) if rows[i] else project.error(chunk, i) for i in sorted(rows)]
    return project.batch(author, chunk, made, time)  # type: ignore[arg-type]


def said(batches: Sequence[PutBatch], rng: random.Random) -> list[list[Write]]:
    """The batches in any order, some twice, some as a bare statement first, in commits of any size."""
    writes: list[Write] = [*batches, *(b for b in batches if rng.random() < 0.3)]
    rng.shuffle(writes)
    early = [PutStatement(b.envelope, 1.0) for b in batches if rng.random() < 0.3]
    every: list[Write] = [*early, *writes]
    commits: list[list[Write]] = []
    while every:
        size = rng.randint(1, len(every))
        commits.append(every[:size])
        every = every[size:]
    return commits


def table_of(commits: Sequence[Sequence[Write]]) -> tuple[list[tuple[object, ...]], str]:
    """Winners as (tid, chunk, item, statement id), and the table's hash."""

    async def run() -> tuple[list[tuple[object, ...]], str]:
        with tempfile.TemporaryDirectory() as directory:
            store = Store.open(database(Path(directory)))
            await store.commit(*PROJECT.setup)
            async with trio.open_nursery() as nursery:
                for writes in commits:
                    nursery.start_soon(store.commit, *writes)
            with store.readers.lend() as cursor:
                query = """SELECT t.tid, c.chunk, c.item, s.id FROM caption c JOIN statement s USING (no)
                    JOIN task t USING (task_no) ORDER BY ALL"""
                table = cursor.execute(query).fetchall()
            hashed = await store.table_hash()
            await store.close()
            return table, hashed

    return trio.run(run)


@given(st.lists(batches, max_size=10), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_table_is_the_canonical_one_in_any_order(made: list[PutBatch], rng: random.Random) -> None:
    expected = canonical(Batch(b.envelope.id, b.envelope.author, b.result, b.rows) for b in made)
    winners = sorted((*place, won.id) for place, (won, _) in expected.items())
    first, first_hash = table_of(said(made, rng))
    again, again_hash = table_of(said(made, rng))
    assert first == again == winners
    assert first_hash == again_hash


def test_the_hash_is_the_documented_one() -> None:
    made = [
        batch(PROJECT, ADA, 0, {0: "a", 1: ""}, NOW),
        batch(PROJECT, BOB, 0, {1: "b", 2: "c"}, NOW),
        batch(PROJECT, EVE, 1, {0: "d"}, NOW),
    ]
    expected = hashlib.sha256()
    for (tid, chunk, index), (won, row) in sorted(canonical(_pure(made)).items(), key=lambda pair: pair[0]):
        shown = PROJECT.items[chunk][index]
        texts = [answer.text for answer in row.answers]
        tokens = ",".join(str(answer.tokens) for answer in row.answers)
        finish = ",".join(answer.finish for answer in row.answers)
        parts = [shown.key, shown.hash.hex(), row.error, row.reason, "\x1f".join(texts), tokens, finish]
        digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
        expected.update(f"{tid.hex()} {chunk} {index} {won.id.hex()} {digest}\n".encode())
    assert table_of([made])[1] == expected.hexdigest()


def test_another_text_makes_another_hash() -> None:
    hashes = {table_of([[batch(PROJECT, ADA, 0, {0: text}, NOW)]])[1] for text in ("a", "b", "")}
    assert len(hashes) == 3
    assert table_of([])[1] == hashlib.sha256().hexdigest()


def test_runs_hold_every_winner_once_and_in_order() -> None:
    rng = random.Random(7)
    texts = ["", "a", "b"]
    made = [
        batch(PROJECT, author, chunk, {i: rng.choice(texts) for i in rng.sample(range(64), 40)}, NOW)
        for author in (ADA, BOB, EVE)
        for chunk in (0, 1)
    ]
    expected = sorted((*place, won.id) for place, (won, _) in canonical(_pure(made)).items())

    async def run() -> list[stored.Run]:
        with tempfile.TemporaryDirectory() as directory:
            store = Store.open(database(Path(directory)))
            await store.commit(*PROJECT.setup, *made)
            with store.readers.lend() as cursor:
                found = list(stored.runs(cursor))
            await store.close()
            return found

    runs = trio.run(run)
    ids = {b.envelope.data: b.envelope.id for b in made}
    assert [(r.tid, r.chunk, i, ids[r.envelope]) for r in runs for i, _ in r.items] == expected
    assert all(key == PROJECT.items[r.chunk][i].key for r in runs for i, key in r.items)


def _pure(made: Sequence[PutBatch]) -> list[Batch]:
    return [Batch(b.envelope.id, b.envelope.author, b.result, b.rows) for b in made]
