"""`p2pcap key …` as people use it: secrets are asked on a terminal or read from a file, and are never shown."""

import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2pcap.cli.main import run
from p2pcap.identity import Identity, is_encrypted, public_half
from p2pcap.project.opened import coordinators
from p2pcap.store.database import connect_writer
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import ADA, BOB, EVE
from tests.unit.coordinator import signed_project, tree

SECRET = re.compile(r"[a-z2-7]{52}")
"""A key as key files write it."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No terminal, no other nodes, and paths are in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("P2PCAP_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signed_project(tmp_path_factory.mktemp("signed"), images=3).directory.parent


@pytest.fixture
def workspace(signed_once: Path, tmp_path: Path) -> Workspace:
    """A signed project in ./cats that was served: its node has taken two checkpoints."""
    shutil.copytree(signed_once / "project", tmp_path / "cats")
    shutil.copytree(signed_once / "images", tmp_path / "images")
    made = Workspace(tmp_path / "cats")
    made.draft.unlink(missing_ok=True)
    made.node.mkdir()
    connection = connect_writer(made.node / "ledger.duckdb")
    for number in (1, 2):
        connection.execute("INSERT INTO seal VALUES (?, ?, ?, ?)", [number, bytes([number]) * 32, b"", b""])
    connection.close()
    return made


def p2pcap(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Everything that a command says. No secret is ever in it."""
    assert run([str(each) for each in arguments]) == code
    told = capsys.readouterr()
    assert not SECRET.search(told.out + told.err)
    assert "Traceback" not in told.err
    return told.out + told.err


def secret(path: Path, text: str = "open sesame\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def on_terminal(*arguments: str, typed: list[str]) -> tuple[int, str]:
    """Run the program on a terminal of its own, and type a line at each question. Returns its code and the screen."""
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-c", "from p2pcap.cli.main import main; main()", *arguments]
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    screen = b""
    while part := _shown(terminal):
        screen += part
        if typed and screen.endswith(b": "):
            os.write(terminal, typed.pop(0).encode() + b"\n")
    os.close(terminal)
    return program.wait(), screen.decode()


def _shown(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1_024)
    except OSError:  # Linux says EIO when the other side has closed
        return b""


# one key


def test_a_key_is_made_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    told = p2pcap(capsys, "key", "new", "keys/ann.key")
    key = Identity.load(Path("keys/ann.key"))
    assert told == f"peer id: {key.peer_id}\npublic key: {key.public.hex()}\n"
    assert p2pcap(capsys, "key", "show", "keys/ann.key") == told + "passphrase: no\n"
    for name in (key.peer_id, key.public.hex(), key.public.hex().upper()):
        assert p2pcap(capsys, "key", "show", name) == told


def test_a_key_file_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    p2pcap(capsys, "key", "new", "ann.key")
    before = Path("ann.key").read_bytes()
    assert "exists already" in p2pcap(capsys, "key", "new", "ann.key", code=2)
    assert "exists already" in p2pcap(capsys, "key", "new", "ann.key", "--passphrase", code=2)
    assert Path("ann.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "nobody", "0" * 63, "g" * 64, "x" * 5_000, "\0", "12D3KooW", "é"])
def test_what_is_no_key_is_one_sentence(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "is no key file, no peer id and no key of 64 hex digits" in p2pcap(capsys, "key", "show", name, code=2)


def test_a_key_that_cannot_be_read_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    secret(Path("open.key"), "p2pcap-secret-key-1 abc\n", 0o644)
    secret(Path("none.key"), "hello\n")
    assert "chmod 600" in p2pcap(capsys, "key", "show", "open.key", code=2)
    assert "is not a p2pcap key file" in p2pcap(capsys, "key", "show", "none.key", code=2)
    assert "cannot be read" in p2pcap(capsys, "key", "show", ".", code=2)


def test_a_passphrase_comes_changes_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = secret(Path("first")), secret(Path("second"), "another one")
    shown = p2pcap(capsys, "key", "new", "ann.key", "--passphrase-file", first)
    assert p2pcap(capsys, "key", "show", "ann.key") == shown + "passphrase: yes\n"
    change = ("key", "passphrase", "ann.key")
    assert "passphrase is wrong" in p2pcap(capsys, *change, "--remove", "--passphrase-file", second, code=2)
    p2pcap(capsys, *change, "--passphrase-file", first, "--new-passphrase-file", second)
    p2pcap(capsys, *change, "--remove", "--passphrase-file", second)
    assert p2pcap(capsys, "key", "show", "ann.key") == shown + "passphrase: no\n"
    assert stat.S_IMODE(Path("ann.key").stat().st_mode) == 0o600
    assert sorted(os.listdir()) == ["ann.key", "first", "second"]


def test_the_environment_names_the_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCAP_PASSPHRASE_FILE", str(secret(Path("words"))))
    p2pcap(capsys, "key", "new", "ann.key")
    assert is_encrypted(Path("ann.key"))
    p2pcap(capsys, "key", "passphrase", "ann.key", "--remove")


def test_what_may_be_a_secret_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    told = p2pcap(capsys, "key", "show", "i44gawlg7uvr5r5xrzuuqgsoff2qs2tahoykv67tvqqqhk47rvcq", code=2)
    assert "i44gawlg7uvr5r5x" in told


def test_without_a_terminal_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["new", "ann.key", "--passphrase"], ["export", "cats", "file"]):
        assert "there is no terminal to ask on" in p2pcap(capsys, "key", *arguments, code=2)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("", 0o600, "is empty"),
        ("\n", 0o600, "is empty"),
        ("one\ntwo\n", 0o600, "of several lines"),
        ("x" * 1_025, 0o600, "too long"),
        ("sesame", 0o640, "may be read by others"),
    ],
)
def test_a_passphrase_file_that_is_no_use(capsys: pytest.CaptureFixture[str], text: str, mode: int, why: str) -> None:
    secret(Path("words"), text, mode)
    assert why in p2pcap(capsys, "key", "new", "ann.key", "--passphrase-file", "words", code=2)
    assert os.listdir() == ["words"]


@pytest.mark.parametrize("name", ["none", ".", "~nobody-of-that-name/words"])
def test_a_passphrase_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "cannot be read" in p2pcap(capsys, "key", "new", "ann.key", "--passphrase-file", name, code=2)


def test_a_passphrase_is_typed_on_a_terminal_and_not_shown() -> None:
    code, screen = on_terminal("key", "new", "ann.key", "--passphrase", typed=["open sesame", "open sesame"])
    assert code == 0
    assert "New passphrase for ann.key: " in screen
    assert "sesame" not in screen
    assert Identity.load(Path("ann.key"), lambda path: b"open sesame")
    code, screen = on_terminal("key", "passphrase", "ann.key", "--remove", typed=["wrong"])
    assert (code, "The passphrase is wrong" in screen) == (2, True)
    code, screen = on_terminal("key", "new", "bob.key", "--passphrase", typed=["one", "other"])
    assert (code, "The two passphrases differ" in screen) == (2, True)
    assert os.listdir() == ["ann.key"]


# a project's keys


def test_a_coordinator_is_replaced_and_the_next_manifest_says_so(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    old = workspace.coordinator()
    told = p2pcap(capsys, "key", "rotate", "cats", "--coordinator")
    assert f"coordinator {old.peer_id} leaves" in told
    assert f"what {old.peer_id} signed counts as far as checkpoint 2 seals it" in told
    assert "next: p2pcap project publish cats" in told
    project = workspace.project()
    assert (project.root.version, project.manifest.version) == (2, 2)
    assert project.manifest_envelope.author == workspace.coordinator().public != old.public
    former = project.former[old.public]
    assert (former.checkpoint, former.hash) == (2, b"\2" * 32)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["--coordinator"], "keys/coordinator-2.key"),
        (["--root"], "keys/root-2.key"),
        (["--root", "--stolen", "--after", "1"], "keys/root-2.key and keys/coordinator-2.key"),
        (["--root", "--add-root-key", ADA.peer_id, "--threshold", "2"], "keys/root-2.key"),  # waits for a signature
    ],
)
def test_a_backup_from_before_a_new_key_is_said_to_be_too_old(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], keys: str
) -> None:
    p2pcap(capsys, "key", "export", "cats", "old.backup", "--plain")
    told = p2pcap(capsys, "key", "rotate", "cats", *arguments)
    assert f"backups made before do not hold {keys}: from them alone nobody can sign under root 2" in told
    assert "Back up again, to a new file: p2pcap key export cats FILE" in told
    for name in ("old", "new"):
        if name == "new":
            p2pcap(capsys, "key", "export", "cats", "new.backup", "--plain")
        p2pcap(capsys, "key", "import", f"{name}.backup", name)
        assert all(Path(name, key).exists() == (name == "new") for key in keys.split(" and "))


def test_a_root_that_only_lives_longer_leaves_backups_their_keys(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "backup" not in p2pcap(capsys, "key", "rotate", "cats").lower()


@pytest.mark.parametrize(
    ("arguments", "number", "hash_"),
    [
        (["--stolen", "--after", "1"], 1, b"\1" * 32),
        (["--stolen", "--after", "0"], 0, bytes(32)),
        (["--coordinator", "--after", "7:" + "ab" * 32], 7, b"\xab" * 32),
    ],
)
def test_what_a_stolen_key_signed_counts_as_far_as_was_said(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], number: int, hash_: bytes
) -> None:
    old = workspace.coordinator().public
    p2pcap(capsys, "key", "rotate", "cats", *arguments)
    former = workspace.project().former[old]
    assert (former.checkpoint, former.hash) == (number, hash_)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--stolen"], "--stolen needs the last checkpoint"),
        (["--stolen", "--after", "3"], "knows no such checkpoint"),
        (["--stolen", "--after", "-1"], "is no checkpoint"),
        (["--stolen", "--after", "1:abc"], "is no checkpoint"),
        (["--stolen", "--after", "'; DROP TABLE seal"], "is no checkpoint"),
        (["--threshold", "2"], "more signatures than it names keys"),
        (["--remove-root-key", ADA.peer_id], "is no root key of this project"),
        (["--add-root-key", "nobody"], "no key file"),
    ],
)
def test_what_cannot_be_rotated_changes_nothing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    before = tree(workspace.directory)
    assert why in p2pcap(capsys, "key", "rotate", "cats", *arguments, code=2)
    assert tree(workspace.directory) == before


def test_without_its_node_a_coordinator_is_not_replaced_by_mistake(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine that was restored from a backup nothing would be known to be sealed."""
    shutil.rmtree(workspace.node)
    assert "--after NUMBER:HASH" in p2pcap(capsys, "key", "rotate", "cats", "--coordinator", code=2)
    workspace.draft.touch()
    assert "checkpoint 0 seals it" in p2pcap(capsys, "key", "rotate", "cats", "--coordinator")


def test_several_people_sign_by_hand(workspace: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ADA.save(Path("ada.key"))
    BOB.save(Path("bob.key"))
    EVE.save(Path("eve.key"))
    told = p2pcap(
        capsys, "key", "rotate", "cats", "--add-root-key", "ada.key", "--add-root-key", BOB.peer_id, "--threshold", 2
    )
    assert "root 2 lacks 1 of the signatures of root 2. Send cats/signed/root-2.partial to the others" in told
    shutil.copy("cats/signed/root-2.partial", "root-2.partial")
    sign = ("key", "sign-root", "root-2.partial", "--yes", "--key")
    assert "is no root key" in p2pcap(capsys, *sign, "eve.key", code=2)
    told = p2pcap(capsys, *sign, "ada.key")
    assert f"root key {ADA.peer_id} comes" in told
    assert "2 root keys must sign the next root, not 1" in told
    assert "has all its signatures; send it back" in told
    assert workspace.root_in_force().version == 1
    told = p2pcap(capsys, "key", "sign-root", "cats", "--add", "root-2.partial")
    assert "root 2 is in force here" in told
    assert workspace.project().root.roles.root.threshold == 2
    assert "There is no root at" in p2pcap(capsys, "key", "sign-root", "cats", "--key", "bob.key", code=2)


def test_a_holder_is_asked_before_a_root_is_signed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    ADA.save(Path("ada.key"))
    p2pcap(capsys, "key", "rotate", "cats", "--add-root-key", "ada.key", "--threshold", 2)
    path = str(workspace.partial(2))
    before = Path(path).read_bytes()
    code, screen = on_terminal("key", "sign-root", path, "--key", "ada.key", typed=["n"])
    assert (code, "Sign this root?" in screen) == (130, True)
    assert Path(path).read_bytes() == before
    code, _ = on_terminal("key", "sign-root", path, "--key", "ada.key", typed=["y"])
    assert code == 0
    assert Path(path).read_bytes() != before


def test_where_the_coordinators_key_is_not_it_signs_later(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.coordinator_key.rename("coordinator.key")
    told = p2pcap(capsys, "key", "rotate", "cats")
    assert "next: p2pcap project sign cats, where the coordinator's key is" in told
    assert workspace.project().root.version == 1


def test_a_project_is_restored_on_another_machine(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    words = secret(Path("words"))
    p2pcap(capsys, "key", "rotate", "cats", "--coordinator")
    told = p2pcap(capsys, "key", "export", "cats", "cats.backup", "--passphrase-file", words)
    assert "keep it on another machine" in told
    assert stat.S_IMODE(Path("cats.backup").stat().st_mode) == 0o600
    assert "exists already" in p2pcap(
        capsys, "key", "export", "cats", "cats.backup", "--passphrase-file", words, code=2
    )
    assert "is not empty" in p2pcap(capsys, "key", "import", "cats.backup", "cats", code=2)
    project = workspace.project()
    shutil.rmtree("cats")
    assert "no terminal" in p2pcap(capsys, "key", "import", "cats.backup", "cats", code=2)
    told = p2pcap(capsys, "key", "import", "cats.backup", "cats", "--passphrase-file", words)
    assert "next: p2pcap bootstrap serve cats" in told
    assert workspace.project() == project
    assert public_half(workspace.coordinator_key) in coordinators(project.root)


def test_a_plain_backup_takes_no_passphrase(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Who types both may think that it is encrypted."""
    both = ("--plain", "--passphrase-file", "secret.txt")
    assert "Leave one of the two out" in p2pcap(capsys, "key", "export", "cats", "cats.backup", *both, code=2)
    assert not Path("cats.backup").exists()


def test_a_plain_backup_needs_no_passphrase(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    p2pcap(capsys, "key", "export", "cats", "cats.backup", "--plain")
    p2pcap(capsys, "key", "import", "cats.backup", "again")
    assert Workspace(Path("again")).project() == workspace.project()


def test_a_root_is_signed_by_somebody_who_was_asked(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    ADA.save(Path("ada.key"))
    p2pcap(capsys, "key", "rotate", "cats", "--add-root-key", "ada.key", "--threshold", "2")
    before = (path := workspace.partial(2)).read_bytes()
    assert "In a script add --yes" in p2pcap(capsys, "key", "sign-root", path, "--key", "ada.key", code=2)
    assert path.read_bytes() == before
