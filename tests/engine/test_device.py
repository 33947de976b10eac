"""Where an engine's temporary files go."""

import socket
import tempfile
import uuid
from pathlib import Path

import pytest

from p2pcap.engine import device


@pytest.mark.parametrize("length", [10, 60, 120])
def test_a_socket_fits_into_the_folder_however_long_the_usual_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    usual = tmp_path / ("x" * length)
    usual.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(usual))
    with device.scratch() as folder, socket.socket(socket.AF_UNIX) as end:
        end.bind(f"{folder}/{uuid.uuid4()}")
        variables = device.scratch_environment(folder)
        assert variables == {"TMPDIR": folder, "VLLM_RPC_BASE_PATH": folder}
    assert not Path(folder).exists()


def test_only_a_folder_made_for_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stays in ((f"{device.SCRATCH}1", False), ("anything", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").touch()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        device.remove_scratch()
        assert folder.exists() == stays


def test_the_folder_lies_in_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as usual:
        monkeypatch.setattr(tempfile, "tempdir", usual)
        with device.scratch() as folder:
            assert Path(folder).parent == Path(usual)
        assert list(Path(usual).iterdir()) == []
