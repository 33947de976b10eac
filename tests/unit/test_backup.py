"""A project outlives its coordinator's machine: one file holds what is needed, and nothing in it is believed."""

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2pcap.encryption import FRAME, LEAST, EncryptedWriter
from p2pcap.envelope import seal
from p2pcap.errors import ConfigError, KeyFileError, P2pcapError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger.rulings import Ban
from p2pcap_bootstrap.backup import ENCRYPTED, END, PLAIN, export, restore
from p2pcap_bootstrap.rotating import Changes, rotate
from p2pcap_bootstrap.ruling import Outbox
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import NOW
from tests.unit.coordinator import new_project, sign_again, signed_project, tree

LAST = (3, b"h" * 32)


def sesame(path: Path) -> bytes:
    return b"sesame"


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signed_project(tmp_path_factory.mktemp("signed")).directory.parent


@pytest.fixture
def workspace(signed_once: Path, tmp_path: Path) -> Workspace:
    """A signed project with all that its folder may hold."""
    shutil.copytree(signed_once, tmp_path / "base")
    made = Workspace(tmp_path / "base" / "project")
    rotate(made, Changes(coordinator=True), LAST, NOW)
    sign_again(made)
    Identity.create(made.node / "node.key")
    (made.directory / "tickets").mkdir()
    (made.directory / "tickets" / "friends.ticket").write_text("p2pcap:friends\n")
    ban = Ban(made.project().m, b"k" * 32, 1, 0, "all", "", (), NOW)
    Outbox(made).put([seal(made.coordinator(), "ban", ban)], NOW)
    (made.node / "ledger.duckdb").write_bytes(b"large")
    (made.directory / "signed" / "new").mkdir()
    (made.directory / "signed" / "new" / "half").write_bytes(b"half")
    made.draft.write_bytes(b"")
    return made


LEFT_OUT = {"node/ledger.duckdb", "signed/new/half", "signed/draft"}


@pytest.mark.parametrize("passphrase", [b"", b"sesame"])
def test_a_project_comes_back_whole(workspace: Workspace, tmp_path: Path, passphrase: bytes) -> None:
    file, other = tmp_path / "cats.backup", tmp_path / "machine" / "cats"
    count = export(workspace, file, passphrase, LEAST)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = {name: data for name, data in tree(workspace.directory).items() if name not in LEFT_OUT}
    project, coordinator = workspace.project(), workspace.coordinator()
    shutil.rmtree(workspace.directory.parent)
    restored = restore(file, other, sesame)
    assert tree(other) == kept
    assert len(kept) == count
    assert restored.project() == project
    assert restored.coordinator() == coordinator
    assert [path.name for path in other.parent.iterdir()] == ["cats"]
    for path in (*other.glob("keys/*"), *other.glob("tickets/*"), other / "node" / "node.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (other, other / "keys", other / "node"):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def test_a_project_that_is_not_signed_yet_can_be_backed_up(tmp_path: Path) -> None:
    made = new_project(tmp_path, images=2)
    export(made, tmp_path / "file", b"sesame", LEAST)
    restore(tmp_path / "file", tmp_path / "again", sesame)
    assert tree(tmp_path / "again") == tree(made.directory)


def test_what_links_lead_to_is_backed_up(workspace: Workspace, tmp_path: Path) -> None:
    kept = {name: data for name, data in tree(workspace.directory).items() if name not in LEFT_OUT}
    aside = tmp_path / "stick"
    aside.mkdir()
    for path in (workspace.root_key, workspace.directory / "project.yaml"):
        path.rename(aside / path.name)
        path.symlink_to(aside / path.name)
    os.link(workspace.keys / "coordinator.key", workspace.keys / "again.key")
    kept["keys/again.key"] = kept["keys/coordinator.key"]
    export(workspace, tmp_path / "file", b"")
    assert tree(restore(tmp_path / "file", tmp_path / "again", None).directory) == kept


def test_no_secret_is_in_an_encrypted_backup(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, tmp_path / "file", b"sesame", LEAST)
    data = (tmp_path / "file").read_bytes()
    for path in workspace.keys.iterdir():
        assert path.read_bytes().split()[1] not in data
    assert b"coordinator.key" not in data


def test_a_backup_replaces_nothing(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        export(workspace, tmp_path / "file", b"")
    assert (tmp_path / "file").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "base"}


def test_a_restored_project_replaces_nothing(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, tmp_path / "file", b"")
    before = tree(workspace.directory)
    for place in (workspace.directory, tmp_path / "file"):
        with pytest.raises(ConfigError, match="is not empty"):
            restore(tmp_path / "file", place, None)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is not empty"):
        restore(tmp_path / "file", tmp_path / "link", None)
    assert tree(workspace.directory) == before
    (tmp_path / "empty").mkdir()
    assert restore(tmp_path / "file", tmp_path / "empty", None).project() == workspace.project()


def test_a_wrong_passphrase_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, tmp_path / "file", b"sesame", LEAST)
    with pytest.raises(KeyFileError, match="The passphrase is wrong"):
        restore(tmp_path / "file", tmp_path / "again", lambda path: b"other")
    with pytest.raises(KeyFileError, match="--passphrase-file"):
        restore(tmp_path / "file", tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


def test_what_is_signed_is_checked_before_it_is_backed_up(workspace: Workspace, tmp_path: Path) -> None:
    blob = next(iter((workspace.directory / "signed" / "blobs").iterdir()))
    blob.unlink()
    with pytest.raises(UntrustedError, match="misses a file"):
        export(workspace, tmp_path / "file", b"")
    assert not (tmp_path / "file").exists()


def test_a_folder_without_keys_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no keys"):
        export(Workspace(tmp_path), tmp_path / "file", b"")
    assert list(tmp_path.iterdir()) == []


def archive(file: Path, *entries: tuple[tarfile.TarInfo, bytes], end: bool = True) -> None:
    with file.open("wb") as out:
        out.write(PLAIN)
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as made:
            for entry, data in entries:
                entry.size = len(data)
                made.addfile(entry, io.BytesIO(data))
            if end:
                made.addfile(tarfile.TarInfo(END))


def entry_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry_of("/etc/passwd"), id="absolute"),
        pytest.param(entry_of("../keys/root.key"), id="above"),
        pytest.param(entry_of("keys/../../root.key"), id="above, by a detour"),
        pytest.param(entry_of("keys/.."), id="a folder's name"),
        pytest.param(entry_of("tickets/.."), id="another folder's name"),
        pytest.param(entry_of("keys/a/root.key"), id="deeper"),
        pytest.param(entry_of("project.yaml\n"), id="a line's end"),
        pytest.param(entry_of("bin/sh"), id="something else"),
        pytest.param(entry_of("signed/draft"), id="a draft"),
        pytest.param(entry_of("keys", tarfile.DIRTYPE), id="a folder"),
        pytest.param(entry_of("keys/root.key", tarfile.SYMTYPE, "/etc/passwd"), id="a link"),
        pytest.param(entry_of("keys/root.key", tarfile.LNKTYPE, "/etc/passwd"), id="a hard link"),
        pytest.param(entry_of("keys/root.key", tarfile.FIFOTYPE), id="a pipe"),
        pytest.param(entry_of("keys/root.key", tarfile.CHRTYPE), id="a device"),
    ],
)
def test_an_archive_writes_nothing_but_its_parts(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    archive(tmp_path / "file", (entry, b""))
    with pytest.raises(ConfigError, match="is no part of a backup"):
        restore(tmp_path / "file", tmp_path / "deep" / "again", None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == []


def test_a_file_that_comes_twice_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "file", (entry_of("project.yaml"), b"a"), (entry_of("project.yaml"), b"b"))
    with pytest.raises(ConfigError, match="cannot be put into"):
        restore(tmp_path / "file", tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


def test_an_archive_that_was_cut_short_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    archive(tmp_path / "none", (entry_of("project.yaml"), b"a"), end=False)
    with pytest.raises(ConfigError, match="it was cut short"):
        restore(tmp_path / "none", tmp_path / "again", None)
    export(workspace, tmp_path / "file", b"")
    data = (tmp_path / "file").read_bytes()
    for length in (0, 10, len(PLAIN), len(PLAIN) + 100, len(PLAIN) + 512, len(data) // 2, len(data) - 10_240):
        (tmp_path / "file").write_bytes(data[:length])
        with pytest.raises(P2pcapError, match=r"damaged|no backup"):
            restore(tmp_path / "file", tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


def test_an_encrypted_archive_that_lacks_its_last_frame_is_refused(tmp_path: Path) -> None:
    """Even where the frames before it have all the files."""
    archive(tmp_path / "plain", (entry_of("project.yaml"), b"a"))
    whole = io.BytesIO(ENCRYPTED)
    whole.seek(0, io.SEEK_END)
    writer = EncryptedWriter(whole, b"sesame", LEAST)
    writer.write((tmp_path / "plain").read_bytes().removeprefix(PLAIN).ljust(FRAME, b"\0"))
    before = whole.tell()
    writer.finish()
    (tmp_path / "file").write_bytes(whole.getvalue()[:before])
    with pytest.raises(KeyFileError, match="or the file is damaged"):
        restore(tmp_path / "file", tmp_path / "again", sesame)
    (tmp_path / "file").write_bytes(whole.getvalue())
    assert tree(restore(tmp_path / "file", tmp_path / "again", sesame).directory) == {"project.yaml": b"a"}


def test_a_plain_backup_that_was_changed_is_found(workspace: Workspace, tmp_path: Path) -> None:
    """Whatever is signed holds, or the project does not come back."""
    export(workspace, tmp_path / "file", b"")
    data = (tmp_path / "file").read_bytes()
    plan = workspace.blob(workspace.project().manifest.plan)
    assert data.count(plan) == 1
    (tmp_path / "file").write_bytes(data.replace(plan, plan[:-1] + b"\0"))
    with pytest.raises(UntrustedError, match="tampered with"):
        restore(tmp_path / "file", tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("data", [b"", b"\n", b"p2pcap-backup-2 plain\n", b"p2pcap-secret-key-1 abc\n", b"x" * 1_000])
def test_another_file_is_no_backup(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ConfigError, match="is no backup of a project"):
        restore(tmp_path / "file", tmp_path / "again", None)


def test_a_backup_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        restore(tmp_path / "file", tmp_path / "again", None)


def test_a_full_disk_leaves_no_half_backup(
    workspace: Workspace, tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    export(workspace, tmp_path / "sound", b"")
    with full_disk(), pytest.raises(ConfigError, match="cannot be written"):
        export(workspace, tmp_path / "file", b"")
    with full_disk(), pytest.raises(ConfigError, match="cannot be put into"):
        restore(tmp_path / "sound", tmp_path / "again", None)
    assert sorted(os.listdir(tmp_path)) == ["base", "sound"]
