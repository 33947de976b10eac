"""The maintainer's folder: what was signed is whole at every moment, and nothing in it is believed unchecked."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2pcap.errors import ConfigError, KeyFileError, UntrustedError
from p2pcap.project.opened import check_current
from p2pcap.project.ticket import Ticket
from p2pcap.whole_file import replace_whole
from p2pcap_bootstrap.serving import load_seed, local_images, make_ticket
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import chunks_of
from tests.unit.coordinator import (
    CONFIG,
    WEIGHTS,
    change,
    file_of,
    new_project,
    sign_again,
    signed_project,
    tree,
    write_images,
)


def planned(workspace: Workspace) -> tuple[int, int]:
    """Version and images of the project, all of it read and checked."""
    project = workspace.project()
    for chunk in chunks_of(project):
        assert len(workspace.blob(chunk.items)) == chunk.length
    return project.manifest.version, project.images


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.cbor" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_whole(tmp_path / "manifest.cbor", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.cbor"]


def test_before_it_is_signed_there_is_no_project(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    assert workspace.root() is None
    assert workspace.manifest() is None
    with pytest.raises(ConfigError, match=r"holds no signed project\. Run: p2pcap project sign"):
        workspace.project()
    with pytest.raises(ConfigError, match="holds no signed project"):
        Workspace(tmp_path / "nowhere").project()


@pytest.mark.parametrize("step", ["new", "a blob", "root.cbor", "manifest.cbor"])
def test_a_crash_while_signing_leaves_the_old_project(tmp_path: Path, step: str) -> None:
    """Something else in the place of what the step writes ends the writing just there."""
    workspace = signed_project(tmp_path, images=200)
    signed = workspace.directory / "signed"
    write_images(tmp_path / "images", 300)
    if step == "new":
        obstacle = signed / "new"
        obstacle.touch()
    else:
        blob = next(iter(set(next_blobs(tmp_path)) - set(tree(signed))))
        obstacle = signed / (blob if step == "a blob" else f".{step}.new")
        obstacle.mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        sign_again(workspace)
    assert planned(workspace) == (1, 200)
    assert step == "new" or not (signed / "new").exists()
    obstacle.unlink() if step == "new" else obstacle.rmdir()
    sign_again(workspace)
    assert planned(workspace) == (2, 300)


KILLED = """
import os, sys
from pathlib import Path
from p2pcap_bootstrap import config
from p2pcap_bootstrap.signing import sign
from p2pcap.whole_file import replace_whole
from p2pcap_bootstrap.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]))
sign(workspace, config.read(workspace.directory), lambda number: os._exit(9) if number > 128 else None)
"""


def test_a_signing_that_is_killed_leaves_the_old_project(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path, images=200)
    write_images(tmp_path / "images", 300)
    before = set(tree(workspace.directory))
    done = subprocess.run([sys.executable, "-c", KILLED, str(workspace.directory)], check=False)
    assert done.returncode == 9
    left = {name for name in set(tree(workspace.directory)) - before if not name.startswith("signed/new/")}
    assert left == {"signing.lock"}
    assert planned(workspace) == (1, 200)
    sign_again(workspace)
    assert planned(workspace) == (2, 300)
    assert not (workspace.directory / "signed" / "new").exists()
    assert not (workspace.directory / "signing.lock").exists()


def test_two_signings_at_once_are_one_clear_error(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path, images=200)
    with workspace.signing() as first:
        first.put(b"a blob")
        with pytest.raises(ConfigError, match=r"A signing is under way in .*Wait for it to end"):
            sign_again(workspace)
        assert len(list((workspace.directory / "signed" / "new").iterdir())) == 1
    sign_again(workspace)
    assert planned(workspace) == (2, 200)


def next_blobs(base: Path) -> list[str]:
    """The blobs that the next signing will write, from a copy that is signed."""
    shutil.copytree(base / "project", base / "copy")
    sign_again(Workspace(base / "copy"))
    names = [name for name in tree(base / "copy" / "signed") if name.startswith("blobs/")]
    shutil.rmtree(base / "copy")
    plan = Workspace(base / "project").project().manifest.plan.hex()
    return [name for name in names if plan not in name]


def test_a_crash_at_the_first_signing_is_repaired_by_signing(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    (workspace.directory / "signed").mkdir()
    obstacle = workspace.directory / "signed" / ".manifest.cbor.new"
    obstacle.mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        sign_again(workspace)
    root = workspace.root()
    assert root is not None
    with pytest.raises(ConfigError, match="holds no signed project"):
        workspace.project()
    obstacle.rmdir()
    sign_again(workspace)
    assert workspace.project().root_envelope == root
    assert planned(workspace) == (1, 200)


def test_what_a_crash_left_over_is_cleared(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    before = tree(workspace.directory / "signed")
    blobs = workspace.directory / "signed" / "blobs"
    (blobs / ("0" * 64)).write_bytes(b"of a plan that never came")
    (blobs / (".%s.new" % ("0" * 64))).write_bytes(b"half of it")
    sign_again(workspace)
    after = tree(workspace.directory / "signed")
    assert {name for name in after if "blobs" in name} >= {name for name in before if "blobs" in name and name in after}
    assert not any("0" * 64 in name for name in after)


@pytest.mark.parametrize("name", ["root.cbor", "manifest.cbor", "plan", "items"])
@pytest.mark.parametrize("fault", ["flipped", "cut", "empty", "longer", "gone"])
def test_a_tampered_file_is_never_believed(tmp_path: Path, name: str, fault: str) -> None:
    workspace = signed_project(tmp_path)
    project = workspace.project()
    hashes = {"plan": project.manifest.plan, "items": chunks_of(project)[0].items}
    path = workspace.directory / "signed" / (f"blobs/{hashes[name].hex()}" if name in hashes else name)
    data = path.read_bytes()
    if fault == "gone":
        path.unlink()
    else:
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        path.write_bytes({"flipped": flipped, "cut": data[:-1], "empty": b"", "longer": data + b"\0"}[fault])
    with pytest.raises((UntrustedError, ConfigError)):
        load_seed(workspace, file_of(workspace), workspace.project())


def test_a_closed_folder_is_one_clear_error(closed: Path) -> None:
    with pytest.raises(UntrustedError, match="Permission denied"):
        Workspace(closed).project()


# serving


def test_a_seed_holds_everything(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path, images=100)
    project = workspace.project()
    seed = load_seed(workspace, file_of(workspace), project)
    assert set(seed.blobs) == {chunk.items for chunk in chunks_of(project)}
    assert len(seed.blobs) == 2
    assert {file.hash for file in project.stages[0].task.model.files} == set(seed.files)
    assert {path.read_bytes() for path in seed.files.values()} == {WEIGHTS.encode(), CONFIG.encode()}
    assert local_images(workspace, file_of(workspace)) == tmp_path / "images"
    with pytest.raises(KeyError):
        seed.blobs[project.manifest.plan]


@pytest.mark.parametrize("source", ["hf://datasets/owner/name", "https://example.org/a.tar"])
def test_what_lies_elsewhere_is_in_no_folder(tmp_path: Path, source: str) -> None:
    workspace = signed_project(tmp_path)
    change(workspace, images={"source": source})
    assert local_images(workspace, file_of(workspace)) is None


def test_a_table_of_addresses_opens_no_folder(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    table = tmp_path / "list.jsonl"
    table.write_text('{"url": "https://example.org/1.jpg"}\n')
    change(workspace, images={"source": str(table)})
    sign_again(workspace)
    assert local_images(workspace, file_of(workspace)) is None
    table.unlink()  # it was of use for signing only
    assert local_images(workspace, file_of(workspace)) is None


@pytest.mark.parametrize("gone", ["weights changed", "weights gone", "no model", "no images", "nobody's"])
def test_what_is_no_longer_there_is_one_clear_error(tmp_path: Path, gone: str) -> None:
    from p2pcap.errors import ModelError

    workspace = signed_project(tmp_path)
    if gone == "weights changed":
        (tmp_path / "model" / "model.safetensors").write_text("others")
    elif gone == "weights gone":
        (tmp_path / "model" / "model.safetensors").unlink()
    elif gone == "nobody's":
        change(workspace, model="~nobody.here/model")
    else:
        shutil.rmtree(tmp_path / gone.removeprefix("no "))
    with pytest.raises((ConfigError, ModelError)) as caught:
        serve(workspace)
    assert "\n" not in str(caught.value)


def serve(workspace: Workspace) -> None:
    """What the coordinator does before it listens."""
    local_images(workspace, file_of(workspace))
    load_seed(workspace, file_of(workspace), workspace.project())


def test_the_ticket_admits_to_this_project(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    project = workspace.project()
    addresses = tuple(f"/ip4/192.0.2.{number}/tcp/4001" for number in range(12))
    ticket = Ticket.parse(str(make_ticket(workspace, project, addresses)))
    assert (ticket.name, ticket.root, ticket.addresses) == ("Shapes", project.hash, addresses[:3])
    assert ticket.invitation is not None
    invite = ticket.invitation.invite(project.m, project.coordinators)
    assert invite is not None
    assert invite.holds(project.m, project.coordinators)
    assert (invite.key, invite.expires) == (ticket.invitation.key.public, project.manifest.expires)
    check_current(project, project.manifest.created)


def test_the_ticket_stays_the_same_until_it_is_signed_again(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    first = make_ticket(workspace, workspace.project())
    assert make_ticket(workspace, workspace.project()) == first
    sign_again(workspace)
    again = make_ticket(workspace, workspace.project())
    assert first.invitation is not None
    assert again.invitation is not None
    assert (again.invitation.secret, again.root) == (first.invitation.secret, first.root)


def test_a_ticket_needs_the_coordinators_key(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    project = workspace.project()
    workspace.coordinator_key.unlink()
    with pytest.raises(KeyFileError):
        make_ticket(workspace, project)


def test_a_file_that_is_replaced_is_not_opened_to_others(tmp_path: Path) -> None:
    path = tmp_path / "root-2.partial"
    path.touch(0o600)
    replace_whole(path, b"more")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"more", 0o600)
