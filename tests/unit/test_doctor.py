"""`p2pcap doctor`: each check says how a real thing is, and the command says all of it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import trio

from p2pcap.cli import checks, network_checks
from p2pcap.cli.checks import Finding
from p2pcap.cli.main import run
from p2pcap.errors import NotRunningError
from p2pcap.identity import Identity
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NetworkInfo, NodeSnapshot, StoreInfo
from p2pcap.paths import NodePaths, project_node
from p2pcap.project.ticket import SECRET, Invitation, Ticket
from tests.swarm.twin import ROOT, Twin, hash_of, node
from tests.unit.control_node import SNAPSHOT, running, runtime

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime", "user_home")

FOREVER = 2**32 - 1


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def ticket(*addresses: str, root: bytes = ROOT, expires: int = FOREVER) -> Ticket:
    return Ticket("Shapes", root, Invitation.of(bytes(SECRET), Identity.generate(), root[:8], expires), addresses)


def told(findings: list[Finding], check: str) -> Finding:
    (one,) = [finding for finding in findings if finding.check == check]
    return one


# this machine


def test_the_programs_of_this_environment_are_well() -> None:
    found = checks.programs()
    assert found.verdict == "ok"
    assert "libp2p 0.8.1" in found.text


def test_another_libp2p_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["click>=8", "libp2p==9.9.9"])
    found = checks.programs()
    assert (found.verdict, "pip install libp2p==9.9.9" in found.text) == ("problem", True)


def test_a_folder_and_its_key_from_missing_to_well(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "node")
    assert [finding.verdict for finding in checks.folder(paths)] == ["ok"]
    paths.directory.mkdir(mode=0o755)
    assert [finding.text for finding in checks.folder(paths)][1].startswith("none yet")
    identity = Identity.create(paths.key)
    assert identity.peer_id in told(list(checks.folder(paths)), "key").text


def test_folders_and_keys_that_others_may_touch(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "node")
    paths.directory.mkdir()
    paths.directory.chmod(0o777)
    Identity.create(paths.key)
    paths.key.chmod(0o644)
    found = list(checks.folder(paths))
    assert (told(found, "folder").verdict, told(found, "key").verdict) == ("warning", "problem")
    assert "chmod go-w" in told(found, "folder").text
    assert "chmod 600" in told(found, "key").text


def test_a_damaged_key_is_a_problem(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path)
    paths.key.write_text("nonsense")
    paths.key.chmod(0o600)
    assert told(list(checks.folder(paths)), "key").verdict == "problem"


@pytest.mark.parametrize(("free", "verdict"), [(10**12, "ok"), (5 * 10**9, "warning"), (10**8, "problem")])
def test_disk_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert checks.disk(tmp_path / "not" / "made" / "yet").verdict == verdict


@pytest.mark.parametrize(("ahead", "verdict"), [(None, "ok"), (-5, "ok"), (30, "warning"), (100, "problem")])
def test_a_clock_behind_what_others_sign(ahead: int | None, verdict: str) -> None:
    newest = None if ahead is None else int(SNAPSHOT.published) + ahead
    snapshot = msgspec.structs.replace(SNAPSHOT, store=StoreInfo(newest=newest))
    assert checks.clock(snapshot).verdict == verdict
    assert checks.clock(None).verdict == "ok"


def test_a_clock_that_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 5.0)
    assert checks.clock(None).verdict == "problem"


def test_the_engine_is_found_without_loading_it() -> None:
    code = (
        "import sys; from p2pcap.cli.engine_checks import engine; found = engine(); "
        "print(found.verdict, 'vllm' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    verdict, loaded = done.stdout.split()
    assert verdict in ("ok", "warning")
    assert loaded == "False"


# the network


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path)
    assert network_checks.listening(paths).text == "a TCP port can be opened"
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        paths.port.write_text(f"{other.getsockname()[1]}\n")
        found = network_checks.listening(paths)
    assert (found.verdict, "is taken" in found.text) == ("warning", True)
    assert network_checks.listening(paths).verdict == "ok"


def test_addresses_and_multicast_are_looked_at_as_they_are() -> None:
    assert list(network_checks.addresses())
    assert network_checks.multicast().check == "local network"


def test_a_running_node_s_view() -> None:
    def found(network: NetworkInfo, snapshot: NodeSnapshot = SNAPSHOT) -> list[Finding]:
        return list(network_checks.running(msgspec.structs.replace(snapshot, network=network)))

    well = found(NetworkInfo("public", ("direct",)))
    assert {finding.verdict for finding in well} == {"ok"}
    assert told(found(NetworkInfo("private")), "reached").verdict == "warning"
    relayed = told(found(NetworkInfo("private", ("relay",), relays=("a", "b"))), "reached")
    assert (relayed.verdict, "2 relays" in relayed.text) == ("ok", True)
    alone = msgspec.structs.replace(SNAPSHOT, peers=())
    assert told(found(NetworkInfo(), alone), "peers").verdict == "problem"
    busy = msgspec.structs.replace(SNAPSHOT, node=msgspec.structs.replace(SNAPSHOT.node, loop_lag=2.0))
    assert told(found(NetworkInfo(), busy), "event loop").verdict == "warning"


def test_a_ticket_and_its_time() -> None:
    assert network_checks.admission(ticket()).verdict == "ok"
    assert network_checks.admission(ticket(expires=int(time.time()) - 60)).verdict == "problem"


def test_the_addresses_of_a_ticket_are_really_dialled() -> None:
    async def main() -> list[list[Finding]]:
        async with node() as (a, _), node(twin=Twin(hash_of(b"other"))) as (b, _):
            given = ticket(a.addresses[0], b.addresses[0], f"/ip4/127.0.0.1/tcp/1/p2p/{a.peer_id}")
            asked = [(given, ["nonsense"]), (ticket(b.addresses[0]), []), (ticket(), [])]
            return [await network_checks.answering(*one) for one in asked]

    with_answer, another, none = trio.run(main)
    assert [finding.verdict for finding in with_answer] == ["warning", "ok", "warning", "warning"]
    assert [finding.verdict for finding in another] == ["warning", "problem"]
    assert "another project" in another[0].text
    assert [finding.verdict for finding in none] == ["problem"]


# the command


def doctor(*arguments: str) -> tuple[int, dict[str, list[str]]]:
    """Its exit code, and the verdicts by check."""
    command = [
        sys.executable,
        "-c",
        "from p2pcap.cli.main import main; main()",
        "doctor",
        "--quick",
        "--json",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr
    found: dict[str, list[str]] = {}
    for finding in json.loads(done.stdout):
        found.setdefault(finding["check"], []).append(finding["verdict"])
    return done.returncode, found


def has_problem(found: dict[str, list[str]]) -> bool:
    return any("problem" in verdicts for verdicts in found.values())


def test_without_anything_the_page_is_useful_and_nothing_a_problem() -> None:
    code, found = doctor("--offline")
    assert set(found) >= {
        "programs",
        "folder",
        "disk",
        "sockets",
        "clock",
        "engine",
        "addresses",
        "listening",
        "database",
    }
    assert {"router", "nat", "hub"} & set(found) == set()
    assert (code == 0) == (not has_problem(found))


def test_a_text_that_is_no_ticket_is_one_line_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "hello", "--offline", "--quick"]) == 1
    out, err = capsys.readouterr()
    assert "--redacted" in err
    (line,) = [line for line in out.splitlines() if line.startswith("problem")]
    assert "ticket" in line
    assert "Ask" in line or "Copy" in line


def test_a_running_node_is_asked(user_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(user_home / "projects" / "0123456789abcdef"):
        run(["doctor", "--quick", "--offline"])
    out = capsys.readouterr().out
    assert "1 connected" in out
    assert "listening " not in out, "the node listens"


def test_of_a_node_that_hangs_only_that_is_a_problem(
    user_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once, not about its project too; its port is taken by itself, which is no news."""

    def hangs(client: Client) -> bytes:
        raise NotRunningError("The node does not answer. End it.")

    monkeypatch.setattr(Client, "status", hangs)
    with running(user_home / "projects" / "0123456789abcdef"):
        run(["doctor", "--quick", "--offline", "--json"])
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert (found["node"]["verdict"], found["node"]["text"]) == ("problem", "The node does not answer. End it.")
    assert "database" in found
    assert not {"project", "listening"} & set(found)


def test_the_ticket_joined_before_is_dialled(user_home: Path) -> None:
    kept = ticket(f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.generate().peer_id}")
    folder = project_node(user_home, ROOT)
    folder.mkdir(parents=True)
    (folder / "ticket").write_text(f"{kept}\n")
    code, found = doctor("--offline", str(kept))
    assert found["ticket"] == ["ok"], "offline nobody is dialled"
    assert os.listdir(folder) == ["ticket"], "nothing is made"
    assert (code == 0) == (not has_problem(found))
