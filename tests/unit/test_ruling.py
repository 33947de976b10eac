"""Rulings from the maintainer's folder: shown before they are signed, and never lost on their way."""

import hashlib
import time
from pathlib import Path

import pytest
import trio

from p2pcap.cli.main import run
from p2pcap.codec import decode
from p2pcap.envelope import open_envelope, seal
from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.ledger.drafting import BanAsked, RedactAsked
from p2pcap.ledger.records import Grant
from p2pcap.ledger.rulings import Ban, Redact, Void
from p2pcap.node.submitting import Outcome, hand_in
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import Ticket
from p2pcap_bootstrap import inviting, ruling
from p2pcap_bootstrap.ruling import Outbox
from p2pcap_bootstrap.serving import make_ticket
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import ADA, BOB, EVE, NOW
from tests.unit.captioned import captioned_project
from tests.unit.control_node import running, runtime
from tests.unit.coordinator import new_project, sign_again, signed_project, tree

__all__ = ["runtime"]
pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Tests that sign something clean the outbox up."""
    return captioned_project(tmp_path_factory.mktemp("captioned"))


def signed(workspace: Workspace) -> list[object]:
    """What waits in the outbox, which is emptied."""
    kinds: dict[str, type[object]] = {"ban": Ban, "void": Void, "redact": Redact, "grant": Grant}
    outbox, found = Outbox(workspace), list[object]()
    for envelope in outbox.waiting():
        assert envelope.holds()
        assert envelope.author == workspace.coordinator().public
        found.append(decode(envelope.payload, kinds[envelope.kind]))
    outbox.remove(list(outbox.folder.glob("*")))
    return found


def test_a_ban_is_shown_and_then_signed(captioned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ban", str(captioned.directory), "ada", "--reason", "blank captions"]
    assert run([*command, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert f"about Ada ({ADA.peer_id})" in shown.out
    assert "1 results count no more, 40 rows in them" in shown.out
    assert "40 images are open again" in shown.out
    assert signed(captioned) == []
    assert run([*command, "--yes"]) == 0
    assert "waits in" in capsys.readouterr().err
    (ban,) = signed(captioned)
    assert isinstance(ban, Ban)
    assert (ban.author, ban.version, ban.scope, ban.reason) == (ADA.public, 1, "unsealed", "blank captions")


def test_whoever_is_about_to_ban_the_coordinator_is_warned(
    captioned: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    own = captioned.coordinator().peer_id
    node = Identity.load_or_create(NodePaths(captioned.node).key).peer_id
    for who, told in ((own, "coordinator's own key"), (node, "key of the coordinator's own node")):
        assert run(["ban", str(captioned.directory), who, "--dry-run"]) == 0
        assert f"the {told}. What it says" in capsys.readouterr().err
    assert run(["ban", str(captioned.directory), "ada", "--dry-run"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert run(["ban", str(captioned.directory), own]) == 2
    assert signed(captioned) == []


def test_what_waits_in_the_outbox_counts_for_the_next_version(captioned: Workspace) -> None:
    assert run(["ban", str(captioned.directory), "ada", "--yes"]) == 0
    assert run(["ban", str(captioned.directory), "ada", "--lift", "--yes"]) == 0
    assert [(ban.version, ban.scope) for ban in signed(captioned) if isinstance(ban, Ban)] == [
        (1, "unsealed"),
        (2, "none"),
    ]


def test_without_a_terminal_it_needs_yes(captioned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(captioned.directory / "signed")
    assert run(["ban", str(captioned.directory), "ada"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert signed(captioned) == []
    assert tree(captioned.directory / "signed") == before


def test_results_are_voided_by_author(captioned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(captioned.directory)
    assert run(["void", directory, "--author", "bob", "--yes"]) == 0
    assert "60 images are open again" in capsys.readouterr().out
    (void,) = signed(captioned)
    assert isinstance(void, Void)
    assert len(void.batches) == 2
    assert run(["void", directory, "--author", "bob", "--since", "2999-01-01", "--yes"]) == 2
    for wrong in (
        ["--author", "bob", "--since", "yesterday"],
        [],
        ["ab" * 32, "--author", "bob"],
        ["ab" * 32, "--since", "1"],
    ):
        assert run(["void", directory, *wrong, "--yes"]) == 2
    assert signed(captioned) == []


def test_images_are_redacted_by_key_hash_and_place(captioned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    hash_ = hashlib.sha256(b"image 7").hexdigest()
    names = ["00003.png", hash_, "1:35"]
    assert run(["redact", str(captioned.directory), *names, "--reason", "a face", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "3 images are closed for good" in shown
    for line in ("00003.png: caption 3 (Ada)", "00007.png: caption 7 (Ada)", "00099.png: caption 35 (Bob)"):
        assert line in shown
    assert "73 images are open again" in shown  # the other 38 of Ada's result, and 35 of Bob's
    told = [(one.chunk, one.items) for one in signed(captioned) if isinstance(one, Redact)]
    assert told == [(0, 1 << 3 | 1 << 7), (1, 1 << 35)]
    assert run(["redact", str(captioned.directory), "none.png", "--reason", "x", "--yes"]) == 2
    assert "no image of the project has the key" in capsys.readouterr().err.lower()
    assert run(["redact", str(captioned.directory), "1:36", "--reason", "x", "--yes"]) == 2
    assert run(["redact", str(captioned.directory), "ab" * 32, "--reason", "x", "--yes"]) == 2
    assert run(["redact", str(captioned.directory), "1:3", "--yes"]) == 2  # no reason
    assert signed(captioned) == []


def test_equal_images_are_redacted_together(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, images=3)
    for name in ("00000.png", "00001.png"):
        (tmp_path / "images" / name).write_bytes(b"the same")
    sign_again(workspace)
    names = [hashlib.sha256(b"the same").hexdigest()]
    asked = ruling.find_images(workspace, workspace.project(), names, "", NOW)
    assert asked.places == ((0, 0), (0, 1))


def test_a_grant_names_the_volunteer(captioned: Workspace) -> None:
    assert run(["grant", str(captioned.directory), EVE.peer_id, "--name", "Eve", "--yes"]) == 0
    (grant,) = signed(captioned)
    assert isinstance(grant, Grant)
    assert (grant.key, grant.name) == (EVE.public, "Eve")
    for wrong in ([EVE.peer_id[:-1]], [EVE.peer_id, "--name", "é" * 17]):
        assert run(["grant", str(captioned.directory), *wrong, "--yes"]) == 2


def test_a_folder_that_was_never_served_knows_nobody_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = signed_project(tmp_path)
    assert run(["ban", str(workspace.directory), "ada", "--yes"]) == 2
    assert 'Nobody here is called "ada"' in capsys.readouterr().err
    assert run(["ban", str(workspace.directory), ADA.peer_id, "--yes"]) == 0
    assert "more may change than this" in capsys.readouterr().err
    (ban,) = signed(workspace)
    assert isinstance(ban, Ban)
    assert ban.author == ADA.public
    assert run(["ban", str(tmp_path), "ada", "--yes"]) == 2


def test_a_running_node_is_asked_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = signed_project(tmp_path)
    me, m = workspace.coordinator(), workspace.project().m
    with running(workspace.node):
        assert run(["ban", str(workspace.directory), ADA.peer_id, "--yes"]) == 0
        assert "the coordinator's node holds it" in capsys.readouterr().err
        assert list(Outbox(workspace).waiting()) == []
        with pytest.raises(ConfigError, match="Nobody here is called"):
            ruling.draft(workspace, BanAsked("ada", "all", reason="", time=NOW), me.public, NOW)
        many = [seal(me, "void", Void(m, (bytes([number]) * 32,), "", (), NOW)) for number in range(100)]
        ban = seal(me, "ban", Ban(m, BOB.public, 1, 0, "all", "", (), NOW))
        delivery = ruling.hand_over(workspace, [*many, ban], (), NOW)
        assert (delivery.node, delivery.kept, delivery.refused) == (1, 0, ("not now",))
        assert list(Outbox(workspace).waiting()) == []


def test_an_outbox_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    ban = seal(workspace.coordinator(), "ban", Ban(workspace.project().m, BOB.public, 1, 0, "all", "", (), NOW))
    (workspace.directory / "outbox").write_text("a file in its place")
    with pytest.raises(ConfigError, match="cannot be written"):
        Outbox(workspace).put([ban], time.time())


def test_the_outbox_is_handed_in_in_order_and_what_is_refused_stays(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    m, coordinator = workspace.project().m, workspace.coordinator()
    bans = [seal(coordinator, "ban", Ban(m, BOB.public, version, 0, "all", "", (), NOW)) for version in (1, 2, 3, 4)]
    outbox = Outbox(workspace)
    outbox.put(bans[:2], NOW)
    outbox.put(bans[2:], NOW + 1)
    (outbox.folder / "torn.cbor.part").write_bytes(b"no statement")
    said, got = list[str](), list[bytes]()

    async def submit(data: bytes) -> Outcome:
        got.append(data)
        return Outcome(open_envelope(data).id not in (bans[1].id, bans[3].id), "not now", data == bans[3].data)

    trio.run(hand_in, outbox.folder, submit, said.append)
    assert got == [ban.data for ban in bans]
    assert [envelope.id for envelope in outbox.waiting()] == [bans[1].id]
    assert ["tried again at the next start" in line for line in said] == [False, True, False, False]
    (aside,) = outbox.folder.glob("*.refused")
    assert said[3].endswith(f"can never be taken in: not now. It is put aside as {aside.name}")
    assert aside.read_bytes() == bans[3].data
    trio.run(hand_in, tmp_path / "no such folder", submit, said.append)


def test_questions_say_their_bounds(captioned: Workspace) -> None:
    me = captioned.coordinator().public
    with pytest.raises(ConfigError, match="length <= 128"):
        ruling.draft(captioned, BanAsked("ada", "all", reason="x" * 129, time=NOW), me, NOW)
    with pytest.raises(ConfigError, match="No image"):
        ruling.draft(captioned, RedactAsked((), (), reason="x", time=NOW), me, NOW)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["redact", "0:1"], "Missing option '--reason'"),
        (["ban", "ada", "--reason", "x" * 129], "129 characters, and 128 are the most"),
        (["void", "--author", "ada", "--evidence", "zz"], "--evidence zz is no id"),
        (["ban", "ada", *["--evidence", "0" * 64] * 5], "given 5 times, and 4 are the most"),
        (["revoke", "nobody"], "There is no ticket called nobody"),
    ],
)
def test_what_cannot_be_said_is_one_sentence(
    captioned: Workspace, capsys: pytest.CaptureFixture[str], command: list[str], told: str
) -> None:
    assert run([command[0], str(captioned.directory), *command[1:], "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert "Expected" not in shown.err
    assert not shown.out


def test_a_revoked_ticket_is_named_by_label_or_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = captioned_project(tmp_path)
    directory, project = str(workspace.directory), workspace.project()
    team = inviting.make(workspace, "team", 3, None, (), time.time())
    assert team.ticket.invitation is not None
    for name in ("team", str(team.ticket), str(team.path)):
        assert run(["revoke", directory, name, "--reason", "leaked", "--yes"]) == 0
        (ban,) = signed(workspace)
        assert isinstance(ban, Ban)
        assert (ban.author, ban.scope) == (team.ticket.invitation.key.public, "unsealed")
    assert workspace.ticket_key.exists()
    own = make_ticket(workspace, project)
    assert run(["revoke", directory, str(own), "--yes"]) == 0
    assert "prints another" in capsys.readouterr().err
    assert make_ticket(workspace, project).invitation != own.invitation
    other = signed_project(tmp_path / "other")
    for wrong in (str(make_ticket(other, other.project())), str(Ticket("Shapes", project.hash)), "nothing"):
        assert run(["revoke", directory, wrong, "--yes"]) == 2
