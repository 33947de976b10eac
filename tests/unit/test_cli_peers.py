"""`p2pcap peers` and `p2pcap contributors`: all of them, in each form."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from p2pcap.cli import peers
from p2pcap.cli.main import run
from p2pcap.cli.output import clean
from p2pcap.cli.peers import COLUMNS
from p2pcap.cli.status import PEER_COLUMNS, described
from p2pcap.node.snapshot import NodeSnapshot
from tests.unit import control_node
from tests.unit.control_node import SNAPSHOT, running, runtime
from tests.unit.store_project import ADA, BOB

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

Capture = pytest.CaptureFixture[str]


def test_peers_in_each_form(tmp_path: Path, capsys: Capture) -> None:
    with running(tmp_path / "node"):
        assert run(["peers"]) == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head.split() == list(COLUMNS)
        for part in (BOB.peer_id, "bob[2J", "volunteer", "ready", "out, relayed", "12 ms", "/ip4/127.0.0.1/tcp/2"):
            assert part in row
        assert run(["peers", "-q"]) == 0
        assert capsys.readouterr() == (f"{BOB.peer_id}\n", "")
        assert run(["peers", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == list(msgspec.to_builtins(SNAPSHOT.peers))


def test_status_says_the_same_of_a_peer() -> None:
    """Those of `p2pcap peers` that there is room for, in the same words and under the same heads."""
    (peer,) = SNAPSHOT.peers
    now = peer.since + 90
    shown = described(SNAPSHOT, now)
    at = next(index for index, line in enumerate(shown) if line.split() == list(PEER_COLUMNS))
    cells = dict(zip(PEER_COLUMNS, re.split(r" {2,}", shown[at + 1].strip()), strict=True))
    said = dict(zip(COLUMNS, map(clean, map(str, peers.shown(peer, now, COLUMNS))), strict=True))
    assert cells == {column: said[column] for column in PEER_COLUMNS}
    assert (cells["way"], cells["since"]) == ("out, relayed", "1m 30s")


def test_contributors_in_each_form(tmp_path: Path, capsys: Capture) -> None:
    with running(tmp_path / "node"):
        assert run(["contributors"]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [ADA.peer_id, BOB.peer_id]
        assert run(["contributors", "-q"]) == 0
        assert capsys.readouterr().out.split() == [ADA.peer_id, BOB.peer_id]
        assert run(["contributors", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == list(msgspec.to_builtins(SNAPSHOT.contributors))


@pytest.mark.parametrize("command", ["peers", "contributors"])
def test_nobody_is_said_and_no_result(
    command: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: NodeSnapshot = msgspec.structs.replace(SNAPSHOT, peers=(), contributors=())
    monkeypatch.setattr(control_node, "SNAPSHOT", alone)
    with running(tmp_path / "node"):
        for words, out in (([], ""), (["-q"], ""), (["--json"], "[]\n")):
            assert run([command, *words]) == 0
            said = capsys.readouterr()
            assert said.out == out
            assert ("no" in said.err) == (not words)
