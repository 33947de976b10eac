"""A node comes back on the port it had."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pcap.node.ports import keep_port, with_last_port

ANY = ("/ip4/127.0.0.1/tcp/0",)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "port"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_port_of_last_time_is_taken_again(kept: Path, free: int) -> None:
    keep_port(["/dns4/example.org/tcp/9/p2p/X", f"/ip4/127.0.0.1/tcp/{free}/p2p/X"], kept)
    assert with_last_port(ANY, kept) == (f"/ip4/127.0.0.1/tcp/{free}",)


def test_a_port_that_is_taken_is_not_insisted_on(kept: Path, taken: int) -> None:
    keep_port([f"/ip4/127.0.0.1/tcp/{taken}/p2p/X"], kept)
    assert with_last_port(ANY, kept) == ANY


def test_a_port_that_was_asked_for_stays(kept: Path, free: int) -> None:
    kept.write_text(f"{free}\n")
    assert with_last_port(("/ip4/127.0.0.1/tcp/4001",), kept) == ("/ip4/127.0.0.1/tcp/4001",)


@pytest.mark.parametrize("damage", [b"", b"x", b"0", b"-1", b"65536", b"\xff\xfe", b"9" * 1_000])
def test_a_damaged_hint_is_no_hint(kept: Path, damage: bytes) -> None:
    kept.write_bytes(damage)
    assert with_last_port(ANY, kept) == ANY


def test_without_a_hint_any_port_will_do(kept: Path) -> None:
    assert with_last_port(ANY, kept) == ANY


def test_a_disk_that_refuses_costs_the_hint_only(tmp_path: Path) -> None:
    keep_port(["/ip4/127.0.0.1/tcp/4001/p2p/X"], tmp_path / "gone" / "port")
    assert not (tmp_path / "gone").exists()
