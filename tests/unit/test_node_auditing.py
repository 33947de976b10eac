"""What a node keeps for its checks, and when it looks again for what is to be checked."""

import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pcap.audit.watching import Watch
from p2pcap.errors import StoreError
from p2pcap.identity import Identity
from p2pcap.ledger.state import Ledger
from p2pcap.node.auditing import keep_looking, own_secret
from p2pcap.node.change import Change
from p2pcap.node.intake import Intake
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject
from tests.audited import audited, finding, slice_of
from tests.makers import ADA, BOB, NOW, TASK, make_grant
from tests.swarm.twin import within


def test_the_secret_is_made_once_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.secret"
    secret = own_secret(path)
    assert len(secret) == 32
    assert own_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert own_secret(tmp_path / "another") != secret


def test_what_is_no_secret_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audit.secret"
    path.write_bytes(b"short")
    secret = own_secret(path)
    assert len(secret) == 32
    assert own_secret(path) == secret


def test_a_folder_that_cannot_be_written_is_said_to_be_so(closed: Path) -> None:
    with pytest.raises(StoreError, match="Check the folder"):
        own_secret(closed / "audit.secret")


class Alone:
    """A verifier without company."""

    engines = verifiers = 1


@within(20)
async def test_an_accusation_alone_has_a_verifier_look(tmp_path: Path) -> None:
    """It changes nothing that counts, so nothing else tells him."""
    vera = Identity.from_seed(b"v" * 32)
    project = audited((64,), verifiers=(vera.public,)).project
    made = slice_of(audited((64,), verifiers=(vera.public,)), ADA, 0, 0)
    ledger, change, store = Ledger(project), Change(), Store.open(tmp_path / "ledger.duckdb")
    await store.commit(PutProject(project, 1.0))
    intake = Intake(vera, ledger, store, change, lambda envelope, result: None, lambda: NOW + 1_000.0)
    watch = Watch(vera.public, ledger, bytes(32), Alone())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        nursery.start_soon(keep_looking, watch, ledger, intake.found, change, lambda: NOW + 1_000.0)
        await intake.receive([make_grant(project, one).data for one in (ADA, BOB)])
        await intake.receive([made.data])
        ruled = intake.ruled.count
        await intake.receive([finding(BOB, made, "bad", 0b100).data])
        while (pick := watch.agenda(TASK.tid).next(NOW)) is None:
            await change.wait()
        assert (pick.id, pick.items, pick.why) == (made.id, 0b100, "accused")
        assert intake.ruled.count == ruled
        nursery.cancel_scope.cancel()
    await store.close()
