"""What a node keeps for its checks."""

import stat
from pathlib import Path

import pytest

from p2pcap.errors import StoreError
from p2pcap.node.auditing import own_secret


def test_the_secret_is_made_once_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.secret"
    secret = own_secret(path)
    assert len(secret) == 32
    assert own_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert own_secret(tmp_path / "another") != secret


def test_what_is_no_secret_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audit.secret"
    path.write_bytes(b"short")
    secret = own_secret(path)
    assert len(secret) == 32
    assert own_secret(path) == secret


def test_a_folder_that_cannot_be_written_is_said_to_be_so(closed: Path) -> None:
    with pytest.raises(StoreError, match="Check the folder"):
        own_secret(closed / "audit.secret")
