"""A project as one file: what is read is what was signed, or an error."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from p2pcap.cli.bundle_option import project_seed
from p2pcap.errors import ConfigError, SourceError, UntrustedError
from p2pcap.node import bundle
from p2pcap.node.bundle import read_bundle, write_bundle
from p2pcap.paths import NodePaths
from p2pcap_bootstrap.publication import to_file
from p2pcap_bootstrap.serving import make_ticket
from p2pcap_bootstrap.workspace import Workspace
from tests.unit.coordinator import signed_project


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return signed_project(tmp_path_factory.mktemp("bundled"), images=100)


@pytest.fixture
def file(tmp_path: Path, workspace: Workspace) -> Path:
    path = tmp_path / "project.p2pcap"
    assert to_file(workspace, path) == path.stat().st_size
    return path


def test_what_is_read_is_what_was_signed(workspace: Workspace, file: Path) -> None:
    project = workspace.project()
    seed = read_bundle(file, project.hash)
    assert seed.project == project
    assert dict(seed.blobs) == dict(workspace.lists(project))
    assert (seed.files, seed.signer, seed.again) == ({}, None, None)
    assert len(seed.blobs) == len(project.counts) == 2
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_of_another_project_is_refused(file: Path) -> None:
    with pytest.raises(UntrustedError, match="is of another project than the ticket"):
        read_bundle(file, bytes(32))


def test_any_byte_that_changes_is_found(workspace: Workspace, file: Path) -> None:
    project, data = workspace.project(), file.read_bytes()
    for at in (*range(0, len(data), 97), len(data) - 1):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(UntrustedError):
            dict(read_bundle(file, project.hash).blobs)


@pytest.mark.parametrize("length", [0, 5, 17, 20, 21, 40, 1_000, -1])
def test_a_file_that_is_cut_off_is_found(workspace: Workspace, file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UntrustedError):
        read_bundle(file, workspace.project().hash)


def test_a_head_that_says_it_is_huge_is_not_read(workspace: Workspace, file: Path) -> None:
    file.write_bytes(bundle.MAGIC + b"\xff" * 4 + bytes(100))
    with pytest.raises(UntrustedError, match="no project file"):
        read_bundle(file, workspace.project().hash)


def test_a_file_that_is_gone_is_one_clear_error(workspace: Workspace, file: Path) -> None:
    seed = read_bundle(file, workspace.project().hash)
    file.unlink()
    with pytest.raises(UntrustedError, match="is gone"):
        next(iter(seed.blobs.values()))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bundle(file, workspace.project().hash)


def test_a_disk_that_refuses_leaves_what_was_there(
    workspace: Workspace, file: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    before, project = file.read_bytes(), workspace.project()
    with full_disk(), pytest.raises(ConfigError, match="cannot be written"):
        write_bundle(project, workspace.lists(project), file)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]
    with pytest.raises(ConfigError, match="cannot be written"):
        write_bundle(project, workspace.lists(project), file.parent / "no" / "folder")


class Quiet(SimpleHTTPRequestHandler):
    """A web server's answers, ranges left out."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def address(file: Path) -> Iterator[str]:
    """Where a web server has the folder of the file."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(file.parent))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_may_lie_at_an_address(tmp_path: Path, workspace: Workspace, file: Path, address: str) -> None:
    project, paths = workspace.project(), NodePaths(tmp_path / "node")
    ticket = make_ticket(workspace, project)
    seed = project_seed(f"{address}/{file.name}", paths, ticket)
    assert seed is not None
    assert seed.project == project
    assert dict(seed.blobs) == dict(workspace.lists(project))
    assert project_seed(None, paths, ticket) is None
    with pytest.raises(SourceError):
        project_seed(f"{address}/nothing", paths, ticket)
