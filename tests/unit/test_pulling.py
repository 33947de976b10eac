"""What a maintainer's folder makes of what peers hand over, without any peer; and `p2pcap project pull` in words."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2pcap.cli.main import run
from p2pcap.errors import ConfigError, SwarmError, UntrustedError
from p2pcap.node.pulling import Folder
from p2pcap.project.opened import Project
from p2pcap.project.ticket import Ticket
from p2pcap_bootstrap import pulling
from p2pcap_bootstrap.pulling import Puller, notes, pull
from p2pcap_bootstrap.rotating import NOTHING, Changes, rotate
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import NOW
from tests.unit.control_node import runtime
from tests.unit.coordinator import change, new_project, sign_again, signed_project, tree, write_images

__all__ = ["runtime"]

PEERS = ("/ip4/127.0.0.1/tcp/1",)


@pytest.fixture(autouse=True)
def sockets(runtime: Path) -> None:
    """A place for control sockets."""


def copy_of(workspace: Workspace, name: str) -> Workspace:
    copy = workspace.directory.with_name(name)
    shutil.copytree(workspace.directory, copy, ignore=shutil.ignore_patterns("draft"))
    return Workspace(copy)


def peers_with(theirs: Workspace, spoil: Callable[[], None] = lambda: None) -> Puller:
    """Stands for a swarm that has what is signed in another folder."""

    def ask(ticket: Ticket, peers: Sequence[str], folder: Folder, log_file: Path) -> tuple[Project, bool]:
        project = theirs.project()
        assert ticket.root == project.hash
        folder.check(project)
        if not folder.lacks(project):
            return project, False
        for hash_, data in theirs.lists(project).items():
            if not folder.has(hash_):
                folder.put(data)
        spoil()
        return project, True

    return ask


def test_a_root_that_came_since_is_brought_with_its_manifest(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.draft.unlink()
    old = copy_of(workspace, "old")
    rotate(workspace, Changes(coordinator=True), NOTHING, NOW)
    sign_again(workspace)
    found = pull(old, PEERS, peers_with(workspace))
    assert (found.brought, found.root.version) == (True, 2)
    assert old.project() == workspace.project()
    assert old.root_in_force() == workspace.root_in_force()
    (note,) = notes(old, found)
    assert "is a coordinator's of root 2" in note


def test_a_root_that_is_signed_here_stays(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.draft.unlink()
    old = copy_of(workspace, "old")
    write_images(tmp_path / "images", 210)
    sign_again(workspace)
    rotate(old, Changes(), NOTHING, NOW)
    found = pull(old, PEERS, peers_with(workspace))
    assert (found.brought, found.root.version) == (True, 2)
    assert old.project() == workspace.project()
    sign_again(old)
    assert (old.project().version, old.project().images) == ((2, 3), 210)


def test_what_was_signed_here_and_leaves_images_out_is_given_up(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.draft.unlink()
    old = copy_of(workspace, "old")
    for text in ("One", "Two"):
        change(old, description=text)
        sign_again(old)
    assert not pull(old, PEERS, peers_with(workspace)).brought, "what is signed here leads on"
    write_images(tmp_path / "images", 210)
    sign_again(workspace)
    assert old.project().version > workspace.project().version
    assert pull(old, PEERS, peers_with(workspace)).brought
    sign_again(old)
    assert (old.project().version, old.project().images) == ((1, 3), 210)


def test_another_root_of_a_version_is_not_brought(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    old = copy_of(workspace, "old")
    rotate(workspace, Changes(), NOTHING, NOW)
    sign_again(workspace)
    rotate(old, Changes(coordinator=True), NOTHING, NOW)
    before = tree(old.directory)
    with pytest.raises(UntrustedError, match="two people have signed with the project's root keys"):
        pull(old, PEERS, peers_with(workspace))
    assert tree(old.directory) == before


def test_what_breaks_off_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.draft.unlink()
    old = copy_of(workspace, "old")
    write_images(tmp_path / "images", 210)
    sign_again(workspace)

    def gone() -> None:
        raise SwarmError("No peer that answers has 1 of the lists of images.")

    before = tree(old.directory)
    with pytest.raises(SwarmError, match="lists of images"):
        pull(old, PEERS, peers_with(workspace, gone))
    assert tree(old.directory) == before


def test_a_file_that_is_gone_comes_again(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.draft.unlink()
    old = copy_of(workspace, "old")
    blob = next(path for path in (old.directory / "signed" / "blobs").iterdir())
    blob.write_bytes(b"other")
    assert pull(old, PEERS, peers_with(workspace)).brought
    assert tree(old.directory / "signed") == tree(workspace.directory / "signed")


def test_without_a_project_or_a_peer_there_is_a_next_step(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    with pytest.raises(ConfigError, match="p2pcap key import"):
        pull(workspace, PEERS)
    sign_again(workspace)
    with pytest.raises(ConfigError, match="--peer"):
        pull(workspace, ())


def test_the_command_tells_what_came_and_what_is_other_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = signed_project(tmp_path)
    workspace.draft.unlink()
    old = copy_of(workspace, "old")
    change(workspace, description="Cats only.")
    sign_again(workspace)
    monkeypatch.setattr(pulling.pull, "__defaults__", (peers_with(workspace),))
    command = ["project", "pull", str(old.directory), "--peer", PEERS[0]]
    assert run(command) == 0
    found = capsys.readouterr()
    assert found.out.splitlines()[1:3] == ["manifest:  version 2; here it was 1", "images:    200 in 4 chunks"]
    assert "project.yaml differs: description: Cats only. → none" in found.out
    assert "p2pcap project diff" in found.err
    assert run(command) == 0
    assert "nothing was brought: the swarm has manifest 2" in capsys.readouterr().err
    (old.directory / "project.yaml").unlink()
    workspace.project()
    change(workspace, description="Dogs.")
    sign_again(workspace)
    assert run(command) == 0
    assert "project.yaml cannot be signed as it is" in capsys.readouterr().err
