"""The table in SQL against the pure function it has to equal, for any set of results in any order."""

import hashlib
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.ledger.canonical import Batch, Place, canonical
from p2pcap.ledger.checkpoint import Seal, Seals
from p2pcap.ledger.checks import ALL, Ruled
from p2pcap.ledger.records import Row
from p2pcap.project.records import Policy
from p2pcap.store import canonical as stored
from p2pcap.store import reads, schema
from p2pcap.store.recall import known as recall
from p2pcap.store.store import Store
from p2pcap.store.transaction import write
from p2pcap.store.writes import DropBodies, PutBatch, PutRedaction, PutSeal, PutStanding, PutStatement, Write
from tests.unit.store_project import ADA, BOB, EVE, NOW, Sample, database, dropped, sample

PROJECT = sample(chunks=2, images=64)

Rows = dict[int, str]
"""Item to text; an empty text stands for an error."""

batches = st.builds(
    lambda author, chunk, rows, time: batch(PROJECT, author, chunk, rows, time),
    st.sampled_from([ADA, BOB, EVE]),
    st.integers(0, 1),
    st.dictionaries(st.integers(0, 11), st.sampled_from(["", "a", "b"]), min_size=1, max_size=5),
    st.integers(NOW, NOW + 2),
)


def batch(project: Sample, author: object, chunk: int, rows: Rows, time: int) -> PutBatch:
    made = [project.row(chunk, i, rows[i]) if rows[i] else project.error(chunk, i) for i in sorted(rows)]
    return project.batch(author, chunk, made, time)  # type: ignore[arg-type]


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


@st.composite
def worlds(draw: st.DrawFn) -> "World":
    made = draw(st.lists(batches, max_size=8, unique_by=lambda b: b.envelope.id))
    ids = [b.envelope.id for b in made]
    some = st.lists(st.sampled_from(ids), max_size=6) if ids else st.just([])
    items = st.integers(0, 2**12 - 1)
    ruled = st.builds(Ruled, st.sampled_from([0, ALL]) | items, items, items, items)
    tiers = st.dictionaries(st.sampled_from([a.public for a in (ADA, BOB, EVE)]), st.integers(1, 2))
    seals = [
        PutSeal(Seal(number, bytes([number]) * 32, draw(st.binary(min_size=32, max_size=32)), draw(tiers)), draw(some))
        for number in range(1, 1 + draw(st.integers(0, 3)))
    ]
    rulings = [(draw(st.sampled_from(ids)), draw(ruled)) for _ in range(draw(st.integers(0, 6)))] if ids else []
    redactions = [dropped(made, *draw(closed)) for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2])))]
    return World(made, rulings, seals, redactions, draw(st.integers(1, 3)))


closed = st.tuples(st.integers(0, 1), st.integers(1, 2**12 - 1).filter(lambda items: items.bit_count() < 3))


@dataclass(frozen=True)
class World:
    """What a node may be given: results, what rulings make of them (the last one said holds), checkpoints in their
    order, and redactions; and how many authors make an error final."""

    made: list[PutBatch]
    rulings: list[tuple[bytes, Ruled]]
    seals: list[PutSeal]
    redactions: list[PutRedaction]
    error_authors: int

    def writes(self, rng: random.Random) -> Iterator[Write]:
        """All of it in an order of chance, some of it twice; results also as a bare statement first."""
        told: list[Any] = [*self.made, *self.made, *self.redactions, *([self.rulings] * len(self.rulings))]
        told += [PutStatement(b.envelope, 1.0) for b in self.made if rng.random() < 0.3]
        told += [self.seals] * len(self.seals)
        rng.shuffle(told)
        rulings, seals = iter(self.rulings), iter(self.seals)
        for one in told:
            if one is self.rulings:
                id_, ruled = next(rulings)
                yield PutStanding(id_, ruled)
            elif one is self.seals:
                yield next(seals)
            else:
                yield one

    def batches(self) -> list[Batch]:
        """What the pure function is given."""
        chain = Seals()
        for put in self.seals:
            chain.take(put.seal, put.ids)
        ruled = dict(self.rulings)
        closed = {(r.chunk, item) for r in self.redactions for item in range(64) if r.items >> item & 1}
        made = [b for b in self.made if not any((b.result.chunk, row.item) in closed for row in b.rows)]
        return [_batch(b, chain, ruled.get(b.envelope.id, Ruled())) for b in made]

    @property
    def ids(self) -> list[bytes]:
        """The results'."""
        return [b.envelope.id for b in self.made]


def _batch(put: PutBatch, chain: Seals, ruled: Ruled) -> Batch:
    id_, author = put.envelope.id, put.envelope.author
    seal = chain.of(id_)
    tier = seal.tiers.get(author, 0) if seal is not None else chain.tier(author)
    return Batch(id_, author, put.result, put.rows, seal, tier, ruled.confirmed, ruled.counted)


def counts(batch: Batch, row: Row) -> bool:
    return bool(batch.counted >> (row.item - batch.result.offset) & 1)


def is_final(world: World, place: Place) -> bool:
    """Whether enough authors, or a verifier, say that the image of this place cannot be captioned."""
    errors = [
        batch
        for batch in world.batches()
        for row in batch.rows
        if row.error and counts(batch, row) and (batch.result.tid, batch.result.chunk, row.item) == place
    ]
    confirmed = any(batch.confirmed >> (place[2] - batch.result.offset) & 1 for batch in errors)
    return confirmed or len({batch.author for batch in errors}) >= world.error_authors


@contextmanager
def told(world: World, rng: random.Random, more: Sequence[Write] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database to which all was said in transactions of any size; now and then what is known is forgotten and read
    again, as after a restart. `more` is said anywhere among it."""
    setup = sample(policy=Policy(error_authors=world.error_authors)).setup
    with duckdb.connect() as connection:
        schema.create(connection, "test")
        known = recall(connection)
        writes: list[Write] = [*world.writes(rng)]
        for one in (setup[0], *more):
            writes.insert(rng.randint(0, len(writes)), one)
        while writes:
            size = rng.randint(1, len(writes))
            write(connection, known, writes[:size])
            writes = writes[size:]
            if rng.random() < 0.3:
                known = recall(connection)
        yield connection


def stored_table(world: World, rng: random.Random) -> tuple[list[tuple[object, ...]], str]:
    """Winners as (tid, chunk, item, statement id, sealed, final), and the table's hash."""
    with told(world, rng) as connection:
        query = """SELECT t.tid, c.chunk, c.item, unhex(c.statement), c.sealed, c.final
            FROM captions c JOIN batch b ON b.no = (SELECT no FROM statement WHERE id = unhex(c.statement))
            JOIN task t USING (task_no) ORDER BY ALL"""
        return connection.execute(query).fetchall(), stored.table_hash(connection)


def winners_of(world: World) -> list[tuple[object, ...]]:
    """What the pure function says."""
    return sorted(
        (*place, won.id, won.seal.number if won.seal else None, not row.error or is_final(world, place))
        for place, (won, row) in canonical(world.batches(), world.error_authors).items()
    )


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_table_is_the_canonical_one_whatever_comes_when(world: World, rng: random.Random) -> None:
    first, first_hash = stored_table(world, rng)
    again, again_hash = stored_table(world, rng)
    assert first == again == winners_of(world)
    assert first_hash == again_hash


COUNTED = """
SELECT t.tid, c.chunk, c.item, s.id, r.sealed, u.no IS NULL
FROM counted c JOIN statement s USING (no) JOIN task t USING (task_no) JOIN standing r USING (no)
    LEFT JOIN unconfirmed u ON u.no = c.no AND u.item = c.item
ORDER BY ALL
"""


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_dropped_bodies_count_and_rank_as_before_and_come_back_whole(world: World, rng: random.Random) -> None:
    expected = stored_table(world, rng)
    drops = [DropBodies(rng.sample(ids, rng.randint(0, len(ids)))) for ids in [world.ids] * 4]
    with told(world, rng, drops) as connection:
        assert connection.execute(COUNTED).fetchall() == expected[0]
        here = {id_ for id_ in world.ids if _has_text(connection, id_)}
        gone = reads.dropped(connection)
        assert not here & gone
        assert all(reads.body(connection, b.result.root) == b.body for b in world.made if b.envelope.id in here)
        write(connection, recall(connection), world.made)
        assert reads.dropped(connection) == set()
        assert (connection.execute(COUNTED).fetchall(), stored.table_hash(connection)) == expected


def _has_text(connection: duckdb.DuckDBPyConnection, id_: bytes) -> bool:
    query = """SELECT count(*) FROM candidate c JOIN statement s USING (no)
        WHERE s.id = ? AND (len(c.texts) > 0 OR c.reason <> '')"""
    return connection.execute(query, [id_]).fetchall() != [(0,)]


def test_a_seal_alone_changes_no_hash() -> None:
    made = [batch(PROJECT, ADA, 0, {0: "a", 1: ""}, NOW), batch(PROJECT, BOB, 0, {1: "", 2: "c"}, NOW)]
    ids = [b.envelope.id for b in made]
    seals = [PutSeal(Seal(1, bytes(32), bytes(32), {}), ids)]
    rng = random.Random(1)
    assert len({stored_table(World(made, [], taken, [], 2), rng)[1] for taken in ([], seals)}) == 1


def test_the_hash_is_the_documented_one() -> None:
    made = [
        batch(PROJECT, ADA, 0, {0: "a", 1: ""}, NOW),
        batch(PROJECT, BOB, 0, {1: "b", 2: "c"}, NOW),
        batch(PROJECT, EVE, 1, {0: "d"}, NOW),
    ]
    expected = hashlib.sha256()
    for (tid, chunk, index), (won, row) in sorted(canonical(_pure(made), 2).items(), key=lambda pair: pair[0]):
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
    expected = sorted((*place, won.id) for place, (won, _) in canonical(_pure(made), 2).items())

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
    assert [(r.tid, r.chunk, shown.item, ids[r.envelope]) for r in runs for shown in r.items] == expected
    assert all(shown.key == PROJECT.items[r.chunk][shown.item].key for r in runs for shown in r.items)


def _pure(made: Sequence[PutBatch]) -> list[Batch]:
    return [Batch(b.envelope.id, b.envelope.author, b.result, b.rows) for b in made]
