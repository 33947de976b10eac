"""Where things lie, and who may get there."""

import json
import os
import pwd
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from p2pcap import paths
from p2pcap.cli.main import run
from p2pcap.errors import ConfigError
from p2pcap.paths import (
    MAX_SOCKET_PATH,
    NodePaths,
    expanded,
    home,
    own_runtime_directory,
    project_node,
    running_node,
    running_nodes,
    runtime_directories,
)
from tests.unit.control_node import runtime

__all__ = ["runtime"]


def test_home_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    monkeypatch.setenv("P2PCAP_HOME", "~/there")
    assert home() == Path.home() / "there"
    monkeypatch.delenv("P2PCAP_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "p2pcap"


def test_a_home_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCAP_HOME", "~nobody.here/nodes")
    with pytest.raises(ConfigError, match="there is no such user"):
        home()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> object:
        raise KeyError(uid)

    for name in ("HOME", "P2PCAP_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)  # as in a container whose user is a mere number
    with pytest.raises(ConfigError, match="Set HOME or P2PCAP_HOME"):
        home()
    with pytest.raises(ConfigError, match="no HOME"):
        expanded("~/cats")
    assert expanded("cats") == Path("cats")


@pytest.mark.parametrize("node", ["~nobody.here", "~nobody.here/cats"])
def test_a_node_below_a_home_that_is_not_there_is_one_sentence(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], node: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["status"], ["query", "SELECT 1"], ["paths"]):
        assert run([*arguments, "--node", node]) == 2
        err = capsys.readouterr().err
        assert err == f"{node} cannot be found: there is no such user, or no HOME. Write the whole path.\n"


def test_a_folder_that_is_a_loop_of_links_holds_no_node(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert running_node(tmp_path / "loop") is None


def test_a_project_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert project_node(tmp_path, bytes(range(32))) == tmp_path / "projects" / "0001020304050607"


def test_everything_of_a_node_lies_in_its_folder_and_nothing_twice(tmp_path: Path) -> None:
    node = NodePaths(tmp_path)
    places = [node.key, node.database, node.images, node.models, node.log, node.engine_log, node.ticket]
    assert len(set(places)) == len(places)
    assert {place.parent for place in places} == {tmp_path}
    assert list(tmp_path.iterdir()) == []


def test_every_spelling_of_a_folder_has_one_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "link").symlink_to("node")
    monkeypatch.chdir(tmp_path)
    spellings = [tmp_path / "node", tmp_path / "link", Path("node"), Path("./link/../node")]
    assert len({NodePaths(path).socket_name for path in spellings}) == 1
    assert NodePaths(tmp_path).socket_name != NodePaths(tmp_path / "node").socket_name


def test_the_sockets_folder_is_made_for_its_owner_alone(runtime: Path) -> None:
    old = os.umask(0)
    try:
        assert own_runtime_directory() == runtime
    finally:
        os.umask(old)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert own_runtime_directory() == runtime


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_refused(runtime: Path, mode: int) -> None:
    runtime.mkdir()
    runtime.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 700"):
        own_runtime_directory()
    assert running_nodes() == []


def test_a_link_to_a_folder_is_refused(runtime: Path, tmp_path: Path) -> None:
    runtime.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="others may enter"):
        own_runtime_directory()


def test_a_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    (runtime.parent / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime.parent / "file"))
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR"):
        own_runtime_directory()


def test_a_folder_with_too_long_a_name_is_passed_over(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/" + "x" * 100)
    chosen = own_runtime_directory()
    assert chosen == runtime.parent / f"p2pcap-{os.getuid()}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(chosen / f"{NodePaths(Path()).socket_name}.sock"))
    monkeypatch.setattr(tempfile, "tempdir", "/" + "é" * 50)
    with pytest.raises(ConfigError, match="TMPDIR"):
        runtime_directories()


def test_the_longest_allowed_socket_can_be_bound(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    base = str(runtime.parent) + "/"
    room = MAX_SOCKET_PATH - len("/p2pcap/0123456789abcdef.sock") - len(base)
    for extra, fits in ((0, True), (1, False)):
        folder = base + "y" * (room + extra)
        os.mkdir(folder)
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        path = own_runtime_directory() / "0123456789abcdef.sock"
        assert str(path).startswith(folder) is fits
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"null", b"{}", b'{"directory": "/x", "pid": "many"}', b"\xff"])
def test_a_damaged_record_is_no_node(runtime: Path, record: bytes) -> None:
    directory = own_runtime_directory()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "0123456789abcdef.sock"))
        sock.listen()
        (directory / "0123456789abcdef.json").write_bytes(record)
        assert running_nodes() == []


def test_nodes_are_called_by_name_role_project_or_folder(runtime: Path) -> None:
    directory = own_runtime_directory()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "0123456789abcdef.sock"))
        sock.listen()
        record = {"directory": "/nodes/Attic", "pid": 7, "project": "Cats", "role": "observer", "name": "Ada"}
        (directory / "0123456789abcdef.json").write_text(json.dumps(record))
        (node,) = running_nodes()
    assert all(node.is_called(name) for name in ("attic", "cats", "OBSERVER", "ada"))
    assert not node.is_called("dogs")
    assert running_nodes() == []  # nobody listens any more
    assert not paths.answers(directory / "0123456789abcdef.sock")
