"""`p2pcap fsck`: whatever is wrong in a database is found, named and put right; and nothing is found in a good one."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec
import pytest
import trio
from msgspec import structs

from p2pcap.cli.main import run as run_command
from p2pcap.codec import encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import StoreError
from p2pcap.ledger import sealing
from p2pcap.ledger.body import error_bits
from p2pcap.ledger.checkpoint import Stamp, blob_of, tiers_blob
from p2pcap.ledger.records import Profile
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.intake import Intake
from p2pcap.project.opened import open_project
from p2pcap.project.records import FormerKey, RootChain
from p2pcap.project.roots import write_chain
from p2pcap.store.database import reading
from p2pcap.store.fsck import Report, check, make_anew
from p2pcap.store.store import Store
from p2pcap.store.writes import DropBodies, PutBatch, PutBlob, PutProject, PutSeal
from tests.chains import NEW_HELM, after, signed
from tests.makers import COORDINATOR, ROOT_KEY, chunks_of
from tests.unit.store_project import ADA, BOB, EVE, NOW, database, sample

PROJECT = sample(chunks=3, images=128)
M = PROJECT.project.m
TIERS = {BOB.public: 1}


def a(number: int) -> bytes:
    return number.to_bytes(8, "little")


class Kept:
    """A node's ledger and store, without its network."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ledger = Ledger(PROJECT.project)
        self.intake = Intake(ADA, self.ledger, store, Change(), lambda envelope, result: None, lambda: NOW + 1_000.0)

    async def hear(self, *envelopes: Envelope) -> None:
        received = await self.intake.receive([envelope.data for envelope in envelopes])
        assert received.new == len(envelopes)

    async def hold(self, *made: PutBatch) -> None:
        await self.hear(*(put.envelope for put in made))
        await self.store.commit(*made)
        for put in made:
            self.ledger.complete(put.envelope.id, put.envelope.author, put.result, error_bits(put.rows))

    async def checkpoint(self, taken: bool = True) -> None:
        now = NOW + 500.0
        sealed = _with_tiers(sealing.make(self.ledger, sealing.sealable(self.ledger, now), bytes([7]) * 32, now))
        envelope = seal(COORDINATOR, "checkpoint", sealed.record)
        await self.hear(envelope)
        if taken:
            await self.take(sealed, envelope)

    async def take(self, sealed: sealing.Sealed, envelope: Envelope) -> None:
        seal_ = sealing.seal_of(sealed.record, envelope.payload_hash, TIERS)
        blobs = [PutBlob(hash_, data) for hash_, data in sealed.blobs.items()]
        await self.store.commit(*blobs, PutSeal(seal_, sealed.ids))
        self.ledger.seal(sealed.record, seal_, sealed.ids)


def _with_tiers(sealed: sealing.Sealed) -> sealing.Sealed:
    """As if Bob had made enough captions."""
    data = tiers_blob(TIERS)
    record = structs.replace(sealed.record, tiers=blob_of(data))
    return sealing.Sealed(record, sealed.blobs | {record.tiers.hash: data}, sealed.ids)


async def _fill(path: Path) -> None:
    """A ledger in which everything has happened once; and of a second checkpoint the statement is here, but
    the node was stopped before it took it."""
    store = Store.open(path)
    node = Kept(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.intake.run)
        await _tell(store, node)
        nursery.cancel_scope.cancel()
    await store.close()


async def _tell(store: Store, node: Kept) -> None:
    lists = zip(chunks_of(PROJECT.project), PROJECT.items, strict=True)
    await store.commit(*PROJECT.setup, *(PutBlob(chunk.items, encode(items)) for chunk, items in lists))
    await node.hear(*(PROJECT.grant(author, name).envelope for author, name in ((ADA, "Ada"), (BOB, "Bob"), (EVE, ""))))
    gone = PROJECT.batch(EVE, 0, [PROJECT.row(0, 110), PROJECT.error(0, 111)])
    ada, bob = PROJECT.slice(ADA, 0, 0, 64), PROJECT.slice(BOB, 0, 32, 64, "other")
    failed = [PROJECT.batch(author, 1, [PROJECT.error(1, item) for item in range(4)]) for author in (ADA, BOB)]
    lone = PROJECT.batch(EVE, 1, [PROJECT.error(1, 9), PROJECT.row(1, 10)])
    void, secret, banned = PROJECT.slice(BOB, 1, 64, 64), PROJECT.slice(ADA, 2, 0, 16), PROJECT.slice(EVE, 2, 64, 64)
    await node.hold(ada, bob, *failed, lone, void, secret, gone)
    await node.checkpoint()
    await store.commit(DropBodies([gone.envelope.id]))
    await node.hold(banned)
    await node.hear(
        PROJECT.slice(BOB, 2, 20, 4).envelope,
        seal(ADA, "profile", Profile(M, "Ada", "https://ada.example.org", NOW)),
        seal(COORDINATOR, "stamp", Stamp(M, 1, 1, 1, bytes(32), 1, bytes(32), NOW, NOW + 10_000)),
        seal(COORDINATOR, "verdict", Finding(M, failed[0].envelope.id, a(1), "ok", "human", b"", NOW)),
        seal(COORDINATOR, "void", Void(M, (void.envelope.id,), "wrong", (), NOW)),
        seal(COORDINATOR, "redact", Redact(M, 2, 3, 1, a(1), "private", NOW)),
        seal(COORDINATOR, "ban", Ban(M, EVE.public, 1, 1, "unsealed", "spam", (), NOW)),
    )
    await node.checkpoint(taken=False)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = database(tmp_path_factory.mktemp("fsck"))
    trio.run(_fill, path)
    return path.read_bytes()


@pytest.fixture
def filled(tmp_path: Path, original: bytes) -> Path:
    database(tmp_path).write_bytes(original)
    return database(tmp_path)


def fsck(path: Path, repair: bool = False) -> Report:
    return check(path, lambda what, done, total: None, repair)


def spoil(path: Path, sql: str, values: Sequence[object] = ()) -> None:
    with duckdb.connect(path) as connection:
        assert connection.execute(sql, list(values)).fetchall() != [(0,)]


def table(path: Path) -> list[tuple[object, ...]]:
    with reading(path) as readers, readers.lend() as cursor:
        return cursor.execute("SELECT * EXCLUDE (answers) FROM captions ORDER BY chunk, item").fetchall()


def test_a_good_database_is_well_and_left_alone(filled: Path) -> None:
    before = filled.read_bytes()
    report = fsck(filled, repair=True)
    assert (report.left_out, report.differences, report.notes, report.kept) == ([], [], [], None)
    assert filled.read_bytes() == before
    assert list(filled.parent.iterdir()) == [filled]


def test_the_sample_has_rows_in_every_table(filled: Path) -> None:
    from p2pcap.store.comparing import TABLES

    with reading(filled) as readers, readers.lend() as cursor:
        tables = {name for (name,) in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()} - {"meta"}
        assert tables == set(TABLES)
        for name in tables:
            assert cursor.execute(f"SELECT count(*) > 0 FROM {name}").fetchall() == [(True,)], name


DAMAGE = {
    "author": "UPDATE author SET name = 'Mallory' WHERE name = 'Bob'",
    "batch": "UPDATE batch SET tokens = tokens + 1 WHERE chunk = 0",
    "candidate": "UPDATE candidate SET error = 'too-large' WHERE chunk = 1 AND item = 9",
    "checkpoint": "UPDATE checkpoint SET captions = 7",
    "chunk": "DELETE FROM chunk WHERE chunk = 2",
    "dropped": "INSERT INTO dropped SELECT min(no) FROM batch",
    "item": "UPDATE item SET key = 'other.png' WHERE chunk = 1 AND item = 5",
    "policy": "UPDATE policy SET error_authors = 5",
    "redacted": "DELETE FROM redacted",
    "ruled": "DELETE FROM ruled",
    "ruling": "UPDATE ruling SET word = 'none' WHERE kind = 'ban'",
    "seal": "UPDATE seal SET beacon = 'x'::BLOB",
    "sealed": "DELETE FROM sealed WHERE id = (SELECT min(id) FROM sealed)",
    "standing": "UPDATE standing SET counted = 1 WHERE no = (SELECT min(no) FROM standing)",
    "superseded": "DELETE FROM superseded",
    "tier": "UPDATE tier SET tier = 2",
    "task": "UPDATE task SET model = 'another'",
    "unconfirmed": "DELETE FROM unconfirmed",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_spoilt_projection_is_named_and_put_right(filled: Path, name: str) -> None:
    before = table(filled)
    spoil(filled, DAMAGE[name])
    spoilt = filled.read_bytes()
    report = fsck(filled)
    assert [difference.table for difference in report.differences] == [name]
    assert report.left_out == []
    assert filled.read_bytes() == spoilt
    repaired = fsck(filled, repair=True)
    assert repaired.kept is not None
    assert repaired.kept.read_bytes() == spoilt
    assert sorted(filled.parent.iterdir()) == sorted([filled, repaired.kept])
    assert fsck(filled).is_well
    assert table(filled) == before


FALSE = {
    "result": ("UPDATE statement SET envelope = ? WHERE id = ?", "bad signature", {"statement", "batch", "candidate"}),
    "grant": ("UPDATE statement SET envelope = ? WHERE id = ?", "bad signature", {"statement", "author", "batch"}),
    "void": ("UPDATE statement SET envelope = ? WHERE id = ?", "bad signature", {"statement", "ruled", "standing"}),
    "checkpoint": ("UPDATE statement SET envelope = ? WHERE id = ?", "bad signature", {"statement", "seal", "sealed"}),
}


@pytest.mark.parametrize("kind", FALSE)
def test_a_statement_that_does_not_verify_is_named_and_left_out(filled: Path, kind: str) -> None:
    sql, reason, tables = FALSE[kind]
    with duckdb.connect(filled) as connection:
        query = "SELECT id, envelope FROM statement WHERE kind = ? ORDER BY no LIMIT 1"
        [(id_, data)] = connection.execute(query, [kind]).fetchall()
    spoil(filled, sql, [data[:-1] + bytes([data[-1] ^ 1]), id_])
    report = fsck(filled)
    assert report.left_out[0] == f"{kind} {id_.hex()[:16]}: {reason}"
    assert tables <= {difference.table for difference in report.differences}
    assert fsck(filled, repair=True).kept is not None
    assert fsck(filled).is_well


def test_another_body_is_named_and_left_out(filled: Path) -> None:
    spoil(filled, "UPDATE batch SET body = body || 'x'::BLOB WHERE chunk = 0 AND first = 0")
    report = fsck(filled, repair=True)
    assert len(report.left_out) == 1
    assert report.left_out[0].startswith("the body of result")

    async def run() -> None:
        store = Store.open(filled)
        assert len(await store.bodies_missing(-1, 9)) == 3  # this, the redacted one, and the one that never came
        await store.close()

    trio.run(run)


def test_an_item_list_comes_back_from_its_blob(filled: Path) -> None:
    before = table(filled)
    spoil(filled, "UPDATE item SET hash = 'x'::BLOB WHERE chunk = 1")
    report = fsck(filled, repair=True)
    assert [difference.text() for difference in report.differences] == ["item: 1 different (chunk 1)"]
    assert table(filled) == before


def test_an_item_list_that_is_lost_leaves_rows_unchecked(filled: Path) -> None:
    spoil(filled, "UPDATE item SET hash = 'x'::BLOB WHERE chunk = 1")
    spoil(filled, "DELETE FROM blob WHERE hash = ?", [chunks_of(PROJECT.project)[1].items])
    report = fsck(filled)
    assert report.left_out == ["the item list of chunk 1: the plan names another one"]
    assert report.notes == ["4 results were checked without their item lists, which are not stored"]


def test_bytes_under_another_hash_are_named(filled: Path) -> None:
    spoil(filled, "UPDATE blob SET data = 'x'::BLOB WHERE hash = ?", [chunks_of(PROJECT.project)[2].items])
    assert fsck(filled).left_out == [f"blob {chunks_of(PROJECT.project)[2].items.hex()}: its bytes have another hash"]


def test_without_its_project_nothing_can_be_checked(filled: Path) -> None:
    before = list(filled.parent.iterdir())
    spoil(filled, "UPDATE blob SET data = 'x'::BLOB WHERE hash = ?", [PROJECT.project.manifest.plan])
    with pytest.raises(StoreError, match="project in the database does not verify"):
        fsck(filled, repair=True)
    assert list(filled.parent.iterdir()) == before


def test_an_empty_database_is_well(tmp_path: Path) -> None:
    async def run() -> None:
        await Store.open(database(tmp_path)).close()

    trio.run(run)
    assert fsck(database(tmp_path)).is_well


def test_a_running_node_is_left_alone(filled: Path) -> None:
    async def run() -> None:
        store = Store.open(filled)
        with pytest.raises(StoreError, match="cannot be opened"):
            fsck(filled)
        await store.close()

    trio.run(run)
    assert list(filled.parent.iterdir()) == [filled]


def test_the_command_says_it_in_words_and_in_json(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(filled.parent)
    assert run_command(["fsck", folder]) == 0
    assert capsys.readouterr().err.endswith("is what its statements say\n")
    spoil(filled, DAMAGE["author"])
    assert run_command(["fsck", folder]) == 3
    out, err = capsys.readouterr()
    assert out == f"author: 1 different ({BOB.public.hex()})\n"
    assert "fsck --repair" in err
    assert run_command(["fsck", folder, "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["well"], shown["left_out"], shown["kept"]) == (False, [], None)
    assert shown["differences"] == [
        {"table": "author", "missing": 0, "surplus": 0, "changed": 1, "examples": [BOB.public.hex()]}
    ]
    assert run_command(["fsck", folder, "--repair"]) == 0
    assert "the old file is" in capsys.readouterr().err
    assert run_command(["fsck", folder]) == 0


def renewed(path: Path, checkpoint: int, hash_: bytes) -> list[str]:
    """What is left out of the database once another root has replaced the coordinator's key, as of that checkpoint."""
    old = PROJECT.project
    root = after(old.root, [ROOT_KEY], helm=NEW_HELM, former=(FormerKey(COORDINATOR.public, checkpoint, hash_),))
    chain = write_chain([[old.root_envelope], signed(root, ROOT_KEY)])
    named = RootChain(2, hashlib.sha256(chain).digest(), len(chain))
    manifest = seal(NEW_HELM, "manifest", msgspec.structs.replace(old.manifest, version=2, roots=named))
    project = open_project(old.root_envelope, manifest, old.plan_data, old.hash, chain)
    left_out = make_anew(path, PutProject(project, NOW), lambda what, done, total: None)
    return sorted(left.split()[0] for left in left_out)


def captioned(path: Path) -> dict[str, int]:
    with reading(path) as readers, readers.lend() as cursor:
        return dict(cursor.execute("SELECT author_name, count(*) FROM captions GROUP BY ALL").fetchall())


def test_what_a_replaced_key_signed_counts_as_far_as_it_was_sealed(filled: Path) -> None:
    """The grants were; what the coordinator said of results was not, so it is gone, and what it took away is back."""
    with reading(filled) as readers, readers.lend() as cursor:
        ((hash_,),) = cursor.execute("SELECT hash FROM seal").fetchall()
    before = captioned(filled)
    assert renewed(filled, 1, hash_) == ["ban", "checkpoint", "redact", "stamp", "verdict", "void"]
    after_it = captioned(filled)
    assert after_it["Bob"] == before["Bob"] + 64, "what was void"
    assert fsck(filled).is_well
    assert [path.name for path in filled.parent.iterdir()] == [filled.name], "no copy stays"


def test_nothing_counts_of_a_key_that_was_never_to_be_trusted(filled: Path) -> None:
    left_out = renewed(filled, 0, bytes(32))
    assert left_out.count("grant") == 3
    assert captioned(filled) == {}
    assert fsck(filled).is_well
