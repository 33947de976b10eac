"""Invitations from the maintainer's folder: each with a key of its own, kept where only its owner reads it, counted."""

import os
import stat
import time
from pathlib import Path

import pytest
import trio

from p2pcap.cli.main import run
from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import ConfigError, SwarmError, TicketError
from p2pcap.identity import Identity
from p2pcap.ledger.grants import own_grant
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import SHORT, Ticket
from p2pcap.store.store import Store
from p2pcap.store.writes import PutStatement, Write
from p2pcap_bootstrap import inviting
from p2pcap_bootstrap.rotating import NOTHING, Changes, rotate
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import ADA, BOB, EVE
from tests.unit.control_node import running, runtime
from tests.unit.coordinator import change, new_project, sign_again, signed_project

__all__ = ["runtime"]
pytestmark = pytest.mark.usefixtures("runtime")

Capture = pytest.CaptureFixture[str]
ADDRESS = f"/ip4/192.0.2.7/tcp/4001/p2p/{ADA.peer_id}"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return signed_project(tmp_path, images=1)


def invite(workspace: Workspace, *options: str) -> int:
    return run(["invite", str(workspace.directory), *options])


def joining(workspace: Workspace, ticket: Ticket, author: Identity, name: str = "") -> Envelope:
    made = own_grant(author, ticket, workspace.project(), name, int(time.time()))
    assert made is not None
    return made


async def _put(workspace: Workspace, writes: list[Write]) -> None:
    store = Store.open(NodePaths(workspace.node).database)
    await store.commit(*writes)
    await store.close()


def test_a_ticket_is_printed_and_kept_for_its_owner_only(workspace: Workspace, capsys: Capture) -> None:
    os.umask(0o022)
    assert invite(workspace, "--name", "team", "--uses", "5", "--expires", "14", "--address", ADDRESS) == 0
    shown = capsys.readouterr()
    path = workspace.directory / "tickets" / "team.ticket"
    assert shown.out == path.read_text()
    assert str(path) in shown.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    ticket = Ticket.parse(shown.out)
    assert (ticket.name, ticket.root, ticket.addresses) == ("Shapes", workspace.project().hash, (ADDRESS,))
    assert ticket.invitation is not None
    assert ticket.invitation.uses == 5
    assert abs(ticket.invitation.expires - time.time() - 14 * 86_400) < 60
    assert os.listdir(path.parent) == ["team.ticket"]
    grant = joining(workspace, ticket, BOB)
    assert validate(Ledger(workspace.project()), grant.data, time.time()).verdict is Verdict.ACCEPT


def test_each_invitation_has_a_key_and_a_name_of_its_own(workspace: Workspace, capsys: Capture) -> None:
    assert [invite(workspace, "--address", ADDRESS) for _ in range(3)] == [0, 0, 0]
    made = inviting.kept(workspace)
    assert [one.label for one in made] == ["ticket-1", "ticket-2", "ticket-3"]
    keys = {one.ticket.invitation.key.public for one in made if one.ticket.invitation is not None}
    assert len(keys) == 3
    for one in made:
        assert one.ticket.invitation is not None
        assert one.ticket.invitation.expires == workspace.project().manifest.expires
        assert one.ticket.invitation.uses == 0
    capsys.readouterr()
    assert invite(workspace, "--name", "ticket-2") == 2
    assert "There is a ticket called ticket-2 already. Choose another --name." in capsys.readouterr().err
    assert inviting.kept(workspace) == made


def test_who_names_no_address_gets_those_of_the_last_ticket(workspace: Workspace, capsys: Capture) -> None:
    assert invite(workspace) == 0
    assert "the ticket names no peer" in capsys.readouterr().err
    invite(workspace, "--address", ADDRESS)
    capsys.readouterr()
    assert invite(workspace) == 0
    assert Ticket.parse(capsys.readouterr().out).addresses == (ADDRESS,)


def test_an_address_without_a_peer_is_the_coordinators(workspace: Workspace) -> None:
    dns = "/dns4/cats.example.org/tcp/4001"
    with pytest.raises(ConfigError, match="names no peer, and the coordinator has not run here yet"):
        inviting.make(workspace, "", 0, None, (dns,), time.time())
    node = Identity.create(NodePaths(workspace.node).key)
    made = inviting.make(workspace, "", 0, None, (dns, "/dnsaddr/example.org"), time.time())
    assert made.ticket.addresses == (f"{dns}/p2p/{node.peer_id}", "/dnsaddr/example.org")
    with pytest.raises(SwarmError, match="not an address of a peer"):
        inviting.make(workspace, "", 0, None, ("example.org:4001",), time.time())
    assert len(inviting.kept(workspace)) == 1


def test_a_ticket_names_as_many_addresses_as_fit(workspace: Workspace) -> None:
    told = tuple(f"/ip6/2001:db8::{number + 1}/tcp/4001/p2p/{EVE.peer_id}" for number in range(8))
    made = inviting.make(workspace, "", 0, None, told, time.time())
    assert made.ticket.addresses == told[: len(made.ticket.addresses)]
    assert 2 <= len(made.ticket.addresses) < 8
    assert len(str(made.ticket)) <= SHORT


@pytest.mark.parametrize("state", ["never", "ended", "running"])
def test_the_list_says_how_often_each_was_used(workspace: Workspace, state: str, capsys: Capture) -> None:
    for label, uses in (("crowd", "0"), ("team", "2")):
        invite(workspace, "--name", label, "--uses", uses, "--address", ADDRESS)
    crowd, team = inviting.kept(workspace)
    now = time.time()
    grants = [joining(workspace, crowd.ticket, author) for author in (ADA, BOB, EVE)]
    writes: list[Write] = [PutStatement(one, now) for one in (*grants, joining(workspace, team.ticket, ADA))]
    capsys.readouterr()
    if state == "running":
        with running(workspace.node, writes):
            assert invite(workspace, "--list") == 0
    else:
        if state == "ended":
            trio.run(_put, workspace, writes)
        assert invite(workspace, "--list") == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head[:2] == ["label", "joined"]
    counts = ("3", "1") if state != "never" else ("0", "0")
    assert [row[:3] for row in rows] == [["crowd", counts[0], "any"], ["team", counts[1], "2"]]


def test_the_list_says_which_have_ended_with_the_key_that_signed_them(workspace: Workspace, capsys: Capture) -> None:
    invite(workspace, "--name", "old", "--address", ADDRESS)
    rotate(workspace, Changes(coordinator=True), NOTHING, int(time.time()))
    sign_again(workspace)
    invite(workspace, "--name", "new", "--address", ADDRESS)
    capsys.readouterr()
    assert invite(workspace, "--list") == 0
    _, new, old = capsys.readouterr().out.splitlines()
    assert "ended: its key was replaced" in old
    assert "ended" not in new


def test_a_list_of_nothing_says_what_to_do(workspace: Workspace, capsys: Capture) -> None:
    assert invite(workspace, "--list") == 0
    assert "make one with: p2pcap invite" in capsys.readouterr().err


def test_the_count_is_of_authors_by_ticket(workspace: Workspace) -> None:
    made = inviting.make(workspace, "", 0, None, (ADDRESS,), time.time())
    grants = [joining(workspace, made.ticket, author).data for author in (ADA, BOB)]
    signer = open_envelope(grants[0]).author
    assert inviting.joined(grants) == {signer: 2}
    assert decode(open_envelope(grants[0]).payload, Grant).key == ADA.public
    with pytest.raises(ConfigError, match="damaged grant"):
        inviting.joined([b"\0"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--name", "../up"), "'../up' is no label"),
        (("--name", "x" * 33), "is no label"),
        (("--name", "Team"), "'Team' is no label"),
        (("--uses", "-1"), "--uses"),
        (("--uses", "65537"), "--uses"),
        (("--expires", "0"), "--expires"),
        (("--expires", "nan"), "--expires"),
        (("--expires", "4000"), "--expires"),
        (("--address", "example.org"), "not an address"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    workspace: Workspace, options: tuple[str, ...], says: str, capsys: Capture
) -> None:
    Identity.create(NodePaths(workspace.node).key)
    assert invite(workspace, *options) != 0
    assert says in capsys.readouterr().err
    assert not list(workspace.directory.glob("tickets/*"))


def test_a_folder_that_is_not_signed_or_closed_is_one_sentence(
    tmp_path: Path, workspace: Workspace, capsys: Capture
) -> None:
    assert invite(new_project(tmp_path / "other", images=1)) == 2
    assert "holds no signed project. Run: p2pcap project sign" in capsys.readouterr().err
    folder = workspace.directory / "tickets"
    folder.write_text("in the way")
    assert invite(workspace, "--address", ADDRESS) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_file_that_is_no_ticket_of_ours_is_named(workspace: Workspace) -> None:
    folder = workspace.directory / "tickets"
    folder.mkdir()
    (folder / "odd.ticket").write_text("p2pcap:zzzz")
    with pytest.raises(TicketError, match=r"odd\.ticket: The ticket is damaged"):
        inviting.kept(workspace)
    (folder / "odd.ticket").write_text(str(Ticket("Shapes", bytes(32))))
    with pytest.raises(TicketError, match=r"odd\.ticket carries no invitation"):
        inviting.kept(workspace)


def test_a_project_that_admits_by_name_hands_out_no_invitations(tmp_path: Path, capsys: Capture) -> None:
    workspace = new_project(tmp_path, images=1)
    change(workspace, policy={"admission": "allowlist"})
    sign_again(workspace)
    assert invite(workspace) == 2
    assert "Run: p2pcap grant" in capsys.readouterr().err


def test_a_qr_code_is_drawn(workspace: Workspace, capsys: Capture) -> None:
    assert invite(workspace, "--address", ADDRESS, "--qr") == 0
    text, *lines = capsys.readouterr().out.splitlines()
    assert Ticket.parse(text).addresses == (ADDRESS,)
    assert len({len(line) for line in lines}) == 1
    assert set("".join(lines)) <= set(" ▀▄█")
    assert set(lines[0]) == {"█"}, "the quiet zone"
