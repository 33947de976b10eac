"""When nobody signs any more: first all goes on with a warning, in the end nothing is begun, and what is held stays."""

import time
from pathlib import Path

import pytest
import trio
from structlog.testing import CapturingLogger

from p2pcap.cli.main import run
from p2pcap.cli.status import described
from p2pcap.errors import UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger.grants import own_grant
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions
from p2pcap.project.ticket import Ticket
from tests.e2e.living import coordinator_of, living, observer, runtime
from tests.swarm.twin import ANY, within
from tests.unit.coordinator import signed_project

__all__ = ["runtime"]

DAY = 86_400


class Moved:
    """A clock that is ahead of the real one by as many days as it is told."""

    days = 0.0

    def __call__(self) -> float:
        return time.time() + self.days * DAY


class Said(list[str]):
    """What a node says to people."""

    async def has(self, text: str) -> None:
        while not any(text in line for line in self):  # noqa: ASYNC110 - a node says it to people, not to programs
            await trio.sleep(0.05)


def told(node: Node) -> str:
    """What `p2pcap status` shows."""
    return "\n".join(described(node.snapshot(), time.time()))


def move(node: Node, clock: Moved, days: float) -> None:
    clock.days = days
    assert node.member is not None
    node.member.change.tell()


@within(120)
async def test_without_a_stamp_work_goes_on_and_nobody_new_comes_in(tmp_path: Path) -> None:
    in_thread = trio.to_thread.run_sync
    workspace, clock, said = await in_thread(signed_project, tmp_path, 3), Moved(), Said()
    async with living(await in_thread(coordinator_of, workspace)) as coordinator:
        ticket = coordinator.ticket()
        async with living(observer(tmp_path / "observer", ticket), clock, said.append) as node:
            member = node.member
            assert member is not None
            while member.ledger.stamp is None:
                await member.change.wait()
            coordinator.stop()
            await coordinator.ended.wait()
            assert not node.snapshot().project.warnings
            early, late = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2))
            grants = [
                own_grant(who, Ticket.parse(ticket), member.ledger.project, "", int(time.time() + days * DAY))
                for who, days in ((early, 0), (late, 4))
            ]
            move(node, clock, 4)
            await said.has("warning: the coordinator has not been heard of for days")
            assert "WARNING     the coordinator has not been heard of for days" in told(node)
            await member.intake.receive([grant.data for grant in grants if grant is not None])
            members = member.ledger.members
            assert (members.is_admitted(early.public), members.is_admitted(late.public)) == (True, False)


@within(120)
async def test_a_month_after_the_expiry_nothing_is_begun_any_more(tmp_path: Path) -> None:
    """Neither by a node that runs nor by one that starts; what is held stays, and comes to others who have the project.
    The volunteer's model is none, so one that began would fail."""
    in_thread = trio.to_thread.run_sync
    workspace, clock, said = await in_thread(signed_project, tmp_path, 3), Moved(), Said()
    expires = (workspace.project().manifest.expires - time.time()) / DAY
    options = await in_thread(coordinator_of, workspace)
    async with living(options, clock) as coordinator:
        ticket = coordinator.ticket()
        folder = tmp_path / "volunteer"
        async with living(observer(folder, ticket)) as node:
            assert node.member is not None
            project = node.member.ledger.project
            grant = own_grant(node.identity, Ticket.parse(ticket), project, "", int(time.time()))
            assert grant is not None
            await node.member.intake.receive([grant.data])
        clock.days = expires + 29
        async with living(observer(folder, ticket), clock, said.append) as node:
            await said.has("have expired on ")
            assert "nobody can join any more, and nothing is captioned after" in told(node)
        said.clear()
        clock.days = expires + 31
        volunteer = NodeOptions(folder, "volunteer", Ticket.parse(ticket), ANY)
        logged = CapturingLogger()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("p2pcap.node.warnings.log", logged)
            async with living(volunteer, clock, said.append) as node:
                await said.has("nothing is captioned here until it is signed again")
                assert "WARNING     the project's signatures have expired on" in told(node)
                assert any("it is signed again" in call.kwargs.get("warning", "") for call in logged.calls)
                assert node.member is not None
                assert node.member.volunteering is not None
                assert node.member.engines is None
                query = ["query", "SELECT count(*) AS n FROM captions", "--node", str(folder)]
                assert await in_thread(run, query) == 0
        with pytest.raises(ExceptionGroup) as refused:
            async with living(observer(tmp_path / "late", ticket), clock):
                pass
        assert refused.group_contains(UntrustedError, match="signatures have expired", depth=None)
