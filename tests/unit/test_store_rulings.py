"""Rulings, redactions and checkpoints in the store: what they change is ranked anew, and nothing else is lost."""

from pathlib import Path

import pytest

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import Checkpoint, Seal, Stamp, blob_of, coverage_blob, segments, tiers_blob
from p2pcap.ledger.checks import UNRULED, Ruled
from p2pcap.ledger.records import Profile
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.project.records import Policy
from p2pcap.store.reads import Contribution
from p2pcap.store.store import Store
from p2pcap.store.writes import DropBlobs, PutBatch, PutBlob, PutRedaction, PutSeal, PutStanding, PutStatement
from tests.makers import COORDINATOR
from tests.unit.store_project import ADA, BOB, EVE, NOW, Sample, dropped, sample
from tests.unit.test_store import counts, with_store

PROJECT = sample()


def seal_of(number: int, tiers: dict[bytes, int] | None = None) -> Seal:
    return Seal(number, bytes([number]) * 32, bytes([100 + number]) * 32, tiers or {})


def winners(store: Store, chunk: int = 0) -> dict[int, tuple[str, int | None, bool]]:
    """Of each item with a row: the author's name, the checkpoint that seals the row, whether it is final."""
    query = "SELECT item, author_name, sealed, final FROM captions WHERE chunk = ? ORDER BY item"
    with store.readers.lend() as cursor:
        return {item: (name, sealed, final) for item, name, sealed, final in cursor.execute(query, [chunk]).fetchall()}


def names(store: Store) -> dict[int, str]:
    return {item: name for item, (name, _, _) in winners(store).items()}


def rivals(first: int = 3) -> tuple[PutBatch, PutBatch]:
    """Two results for items 0 to 3 and `first` to 5: the first one has the lower id, so it wins item 3 while nothing is
    said about either."""
    one = PROJECT.slice(ADA, 0, 0, 4)
    others = (PROJECT.slice(BOB, 0, first, 6 - first, time=NOW + later) for later in range(100))
    return one, next(other for other in others if other.envelope.id > one.envelope.id)


GRANTS = [PROJECT.grant(ADA, "Ada"), PROJECT.grant(BOB, "Bob"), PROJECT.grant(EVE, "Eve")]


def test_a_void_result_gives_way_and_may_come_back(tmp_path: Path) -> None:
    ada, bob = rivals()

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada, bob)
        before = names(store)
        assert before == {0: "Ada", 1: "Ada", 2: "Ada", 3: "Ada", 4: "Bob", 5: "Bob"}
        await store.commit(PutStanding(ada.envelope.id, Ruled(0)))
        assert names(store) == {3: "Bob", 4: "Bob", 5: "Bob"}
        await store.commit(PutStanding(bob.envelope.id, Ruled(0)))
        assert names(store) == {}
        await store.commit(PutStanding(ada.envelope.id, UNRULED), PutStanding(bob.envelope.id, UNRULED))
        assert names(store) == before

    with_store(tmp_path, use)


def test_a_standing_may_come_before_the_result(tmp_path: Path) -> None:
    bad = PROJECT.batch(ADA, 0, [PROJECT.error(0, 0)])

    async def before(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, PutStanding(bad.envelope.id, Ruled(confirmed=1)))

    async def after(store: Store) -> None:
        await store.commit(bad)
        assert winners(store) == {0: ("Ada", None, True)}

    with_store(tmp_path, before)
    with_store(tmp_path, after)


def test_a_redaction_drops_bodies_and_gives_the_losers_rows_back(tmp_path: Path) -> None:
    ada, bob = rivals()
    late = PROJECT.slice(EVE, 0, 0, 2)

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada, bob)
        await store.commit(dropped([ada, bob], 0, 1))
        assert names(store) == {3: "Bob", 4: "Bob", 5: "Bob"}
        assert await store.body(ada.result.root) is None
        assert await store.statements([ada.envelope.id]) == [ada.envelope.data]
        await store.commit(late)  # covers the closed item: its statement alone is kept
        with store.readers.lend() as cursor:
            assert cursor.execute("SELECT done, redacted FROM chunks WHERE chunk = 0").fetchall() == [(3, 1)]

    async def again(store: Store) -> None:
        held = {one.id: one.checked for one in (await store.load()).results}
        assert held == {ada.envelope.id: False, bob.envelope.id: True, late.envelope.id: False}
        await store.commit(ada, late, dropped([ada, bob], 0, 1))
        assert names(store) == {3: "Bob", 4: "Bob", 5: "Bob"}
        assert counts(store)["batch"] == 1

    with_store(tmp_path, use)
    with_store(tmp_path, again)


def test_a_redaction_drops_what_it_was_not_told_of(tmp_path: Path) -> None:
    ada, bob = rivals()

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada, bob)
        await store.commit(PutRedaction(0, 0b1000, ()))
        assert names(store) == {}
        await store.commit(PutRedaction(1, 0b1, [bob.envelope.id]))  # of another chunk: nothing of it is here
        assert counts(store)["candidate"] == 0

    with_store(tmp_path, use)


def test_a_sealed_result_wins_and_stays(tmp_path: Path) -> None:
    ada, bob = rivals()
    better = PROJECT.slice(EVE, 0, 3, 1)

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada, bob)
        await store.commit(PutSeal(seal_of(1), [bob.envelope.id, better.envelope.id]))
        assert winners(store)[3] == ("Bob", 1, True)
        await store.commit(PutSeal(seal_of(2, {ADA.public: 2}), [ada.envelope.id, bob.envelope.id]))
        assert winners(store)[3] == ("Bob", 1, True)
        assert winners(store)[0] == ("Ada", 2, True)

    async def again(store: Store) -> None:
        await store.commit(PutSeal(seal_of(1), []), better)  # said before; and it was sealed before it came
        tie = {"Bob": bob, "Eve": better}
        wins = min(tie, key=lambda name: seal_of(1).tie(tie[name].envelope.id))
        assert winners(store)[3] == (wins, 1, True)
        with pytest.raises(ValueError, match="does not follow"):
            await store.commit(PutSeal(seal_of(4), []))
        loaded = await store.load()
        assert loaded.seals == (
            (seal_of(1), (bob.envelope.id, better.envelope.id)),
            (seal_of(2, {ADA.public: 2}), (ada.envelope.id,)),
        )

    with_store(tmp_path, use)
    with_store(tmp_path, again)


def test_new_tiers_rank_what_is_not_sealed_anew(tmp_path: Path) -> None:
    ada, bob = rivals()

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada, bob)
        await store.commit(PutSeal(seal_of(1, {BOB.public: 1}), []))
        assert names(store)[3] == "Bob"
        await store.commit(PutSeal(seal_of(2, {BOB.public: 1, ADA.public: 2}), []))
        assert names(store)[3] == "Ada"
        await store.commit(PutSeal(seal_of(3), []))
        assert names(store)[3] == "Ada"

    with_store(tmp_path, use)


def test_what_checks_found_is_told_of_each_contributor(tmp_path: Path) -> None:
    ada, bob = PROJECT.slice(ADA, 0, 0, 8), PROJECT.slice(BOB, 0, 8, 4)
    query = "SELECT author_name, rows, checked, passed, failed, unchecked, tier FROM contributors ORDER BY ALL"

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada, bob)
        await store.commit(PutStanding(ada.envelope.id, Ruled(0b0011, 0b0011, 0b0100, 0b1000)))
        await store.commit(PutSeal(seal_of(1, {BOB.public: 2}), []))
        assert names(store) == {0: "Ada", 1: "Ada", **dict.fromkeys(range(8, 12), "Bob")}
        with store.readers.lend() as cursor:
            assert cursor.execute(query).fetchall() == [("Ada", 2, 4, 2, 1, 4, 0), ("Bob", 4, 0, 0, 0, 4, 2)]
        await store.commit(PutStanding(ada.envelope.id, Ruled(0, 0, 0b0100)), PutSeal(seal_of(2), []))
        with store.readers.lend() as cursor:
            assert cursor.execute(query).fetchall() == [("Ada", 0, 1, 0, 1, 7, 0), ("Bob", 4, 0, 0, 0, 4, 0)]

    with_store(tmp_path, use)


def test_an_error_is_final_when_enough_authors_say_it(tmp_path: Path) -> None:
    ada, bob = (PROJECT.batch(author, 0, [PROJECT.error(0, 7)]) for author in (ADA, BOB))
    answer = PROJECT.slice(EVE, 0, 7, 1)

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, ada)
        assert winners(store)[7] == ("Ada", None, False)
        await store.commit(bob)
        assert winners(store)[7][2] is True
        await store.commit(answer)
        assert winners(store)[7] == ("Eve", None, True)
        await store.commit(PutSeal(seal_of(1), [ada.envelope.id, bob.envelope.id]))
        assert winners(store)[7][0] in ("Ada", "Bob")
        assert winners(store)[7][1:] == (1, True)
        await store.commit(PutStanding(bob.envelope.id, Ruled(0)))
        assert winners(store)[7] == ("Eve", None, True)
        await store.commit(PutStanding(ada.envelope.id, Ruled(confirmed=1)))
        assert winners(store)[7] == ("Ada", 1, True)

    with_store(tmp_path, use)


@pytest.mark.parametrize("error_authors", [1, 3])
def test_the_plan_says_how_many_authors_an_error_needs(tmp_path: Path, error_authors: int) -> None:
    errors = [PROJECT.batch(author, 0, [PROJECT.error(0, 7)]) for author in (ADA, BOB)]
    other = sample(policy=Policy(error_authors=error_authors), version=2)

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, *errors)
        assert winners(store)[7][2] is True
        await store.commit(PutStanding(errors[0].envelope.id, Ruled(0)))
        assert winners(store)[7][2] is False
        await store.commit(other.setup[0])
        assert winners(store)[7][2] is (error_authors == 1)
        await store.commit(PROJECT.setup[0])  # older: changes nothing
        assert winners(store)[7][2] is (error_authors == 1)

    with_store(tmp_path, use)


def test_a_statement_takes_the_slot_of_another(tmp_path: Path) -> None:
    m = PROJECT.project.m
    profiles = [seal(ADA, "profile", Profile(m, name, "", NOW + later)) for later, name in enumerate("abc")]

    async def use(store: Store) -> None:
        await store.commit(PutStatement(profiles[0], 1.0))
        await store.commit(PutStatement(profiles[1], 1.0, profiles[0].id))
        assert (await store.load()).others == (profiles[1].data,)
        assert await store.statements([profile.id for profile in profiles]) == [profiles[1].data]

    async def again(store: Store) -> None:
        await store.commit(PutStatement(profiles[1], 1.0, profiles[0].id), PROJECT.slice(ADA, 0, 0, 1))
        await store.commit(PutStatement(profiles[2], 1.0, profiles[1].id))
        await store.commit(PROJECT.slice(BOB, 0, 0, 1))
        assert (await store.load()).others == (profiles[2].data,)
        with store.readers.lend() as cursor:
            assert cursor.execute("SELECT count(*), count(DISTINCT no) FROM statement").fetchall() == [(3, 3)]

    async def at_once(store: Store) -> None:
        await store.commit(
            PutStatement(profiles[0], 1.0),
            PutStatement(profiles[1], 1.0, profiles[0].id),
            PutStatement(profiles[2], 1.0, profiles[1].id),
        )
        assert (await store.load()).others == (profiles[2].data,)

    with_store(tmp_path / "one", use)
    with_store(tmp_path / "one", again)
    with_store(tmp_path / "other", at_once)


def test_blobs_go_and_may_come_again(tmp_path: Path) -> None:
    old, new = PutBlob(b"o" * 32, b"old"), PutBlob(b"n" * 32, b"new")

    async def use(store: Store) -> None:
        await store.commit(old, new)
        await store.commit(DropBlobs([old.hash, b"never" * 6]))
        assert (await store.blob(old.hash), await store.blob(new.hash)) == (None, b"new")
        await store.commit(old, DropBlobs([old.hash]), DropBlobs([new.hash]), new)
        assert (await store.blob(old.hash), await store.blob(new.hash)) == (None, b"new")
        await store.commit(old)
        assert await store.blob(old.hash) == b"old"

    with_store(tmp_path, use)


def rulings(project: Sample, batch: PutBatch) -> list[tuple[Envelope, str, str, str, str]]:
    """One of each kind, with target, word and reason as the view shows them."""
    m, id_ = project.project.m, batch.envelope.id
    mask = (0b101).to_bytes(8, "little")
    return [
        (sign("verdict", Finding(m, id_, mask, "ok", "human", b"", NOW)), "verdict", id_.hex(), "ok", "human"),
        (sign("ban", Ban(m, ADA.public, 1, 0, "all", "spam", (), NOW)), "ban", ADA.public.hex(), "all", "spam"),
        (sign("void", Void(m, (id_,), "wrong", (), NOW)), "void", id_.hex(), "void", "wrong"),
        (sign("redact", Redact(m, 0, 64, 3, mask, "private", NOW)), "redact", "0/64", "redacted", "private"),
    ]


def sign(kind: str, record: object, signer: Identity = COORDINATOR) -> Envelope:
    return seal(signer, kind, record)


def test_rulings_and_checkpoints_can_be_queried(tmp_path: Path) -> None:
    batch = PROJECT.slice(ADA, 0, 0, 4)
    said = rulings(PROJECT, batch)
    record = checkpoint_of(PROJECT, batch)
    stamp = sign("stamp", Stamp(PROJECT.project.m, 1, 1, 1, bytes(32), 0, bytes(32), NOW, NOW + 9))

    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, batch, *(PutStatement(one, 1.0) for one, *_ in said))
        await store.commit(PutStatement(sign("checkpoint", record), 1.0), PutStatement(stamp, 1.0))
        with store.readers.lend() as cursor:
            assert cursor.execute("SELECT * FROM checkpoints").fetchall() == []  # held, but not yet taken
        envelope = sign("checkpoint", record)
        await store.commit(PutSeal(Seal(1, envelope.payload_hash, record.beacon, {}), [batch.envelope.id]))
        with store.readers.lend() as cursor:
            shown = cursor.execute(
                "SELECT kind, target, word, reason, author FROM rulings ORDER BY kind, target"
            ).fetchall()
            taken = cursor.execute("SELECT number, epoch(time), statements, captions FROM checkpoints").fetchall()
        redacted_too = ("redact", "0/66", "redacted", "private")
        expected = sorted([*((kind, *rest) for _, kind, *rest in said), redacted_too])
        assert shown == [(*row, COORDINATOR.peer_id) for row in expected]
        assert taken == [(1, NOW, 1, 4)]
        others = {one.id for one, *_ in said} | {envelope.id, stamp.id}
        assert len((await store.load()).others) == len(others)

    with_store(tmp_path, use)


def checkpoint_of(project: Sample, batch: PutBatch) -> Checkpoint:
    [(segment, _)] = segments([(batch.result.time, batch.envelope.id)])
    coverage = blob_of(coverage_blob({}, project.project.counts))
    tiers = blob_of(tiers_blob({}))
    return Checkpoint(project.project.m, 1, bytes(32), (segment,), coverage, tiers, bytes(32), 1, 4, NOW)


def test_saying_rulings_and_seals_twice_changes_nothing(tmp_path: Path) -> None:
    ada, bob = rivals()
    writes = [
        *PROJECT.setup,
        *GRANTS,
        ada,
        bob,
        PutStanding(ada.envelope.id, Ruled(0, 3)),
        PutSeal(seal_of(1, {BOB.public: 1}), [bob.envelope.id]),
        dropped([], 1, 6),
    ]

    async def use(store: Store) -> None:
        await store.commit(*writes)
        before, table = every_row(store), await store.table_hash()
        await store.commit(*writes[-3:])
        await store.commit(*writes, *writes[-3:])
        assert (every_row(store), await store.table_hash()) == (before, table)

    with_store(tmp_path, use)
    with_store(tmp_path, use)


def every_row(store: Store) -> dict[str, int]:
    tables = ("standing", "ruled", "redacted", "seal", "sealed", "superseded", "unconfirmed", "policy", "candidate")
    with store.readers.lend() as cursor:
        return {name: cursor.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in tables}


def test_errors_are_known_after_a_restart(tmp_path: Path) -> None:
    rows = [PROJECT.error(1, item) if item % 3 else PROJECT.row(1, item) for item in range(40, 50)]
    made = PROJECT.batch(ADA, 1, rows)

    async def write(store: Store) -> None:
        await store.commit(*PROJECT.setup, made)

    async def read(store: Store) -> None:
        [stored] = (await store.load()).results
        assert stored.errors == sum(1 << row.item for row in rows if row.error)
        assert await store.contributions() == (Contribution(ADA.peer_id, "", 10, 7, 10),)

    with_store(tmp_path, write)
    with_store(tmp_path, read)
