"""The commands that ask a node: the same answers from one that runs and from one that has ended."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from p2pcap.cli.amounts import duration, size
from p2pcap.cli.main import run
from p2pcap.cli.pause import Duration, clock_time
from p2pcap.cli.status import described, reached
from p2pcap.errors import ConfigError
from p2pcap.export.proven_lines import verify_file
from p2pcap.node.metrics import exposition
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions
from p2pcap.node.snapshot import AuditInfo, NetworkInfo, NodeSnapshot, ProjectInfo, StageInfo, decode
from p2pcap.paths import running_node
from p2pcap.project.ticket import Ticket
from tests.unit.control_node import SNAPSHOT, controlled, running, runtime
from tests.unit.store_project import ADA, NOW

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime", "user_home")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of nodes."""
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def node(user_home: Path) -> Path:
    """A node's folder in it."""
    return user_home / "projects" / "0123456789abcdef"


@contextmanager
def ended(directory: Path) -> Iterator[None]:
    """A node that has run before."""

    async def live() -> None:
        async with controlled(directory):
            pass

    trio.run(live)
    yield


BOTH = pytest.mark.parametrize("state", [running, ended])
State = Callable[[Path], AbstractContextManager[None]]


def ok(capsys: Capture, *arguments: str) -> str:
    """What the command prints, when all goes well."""
    code = run(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def fails(capsys: Capture, code: int, *arguments: str) -> str:
    """What the command says when it fails with `code`."""
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


# which node


@pytest.mark.parametrize("command", [["status"], ["stop"], ["ticket"], ["query", "SELECT 1"], ["export", "jsonl", "x"]])
def test_without_any_node_it_says_how_to_start_one(command: list[str], capsys: Capture) -> None:
    assert "p2pcap join" in fails(capsys, 4, *command)


@pytest.mark.parametrize("command", [["status"], ["stop"], ["ticket"], ["metrics"]])
def test_some_commands_need_a_running_node(command: list[str], node: Path, capsys: Capture) -> None:
    with ended(node):
        assert f"No node is running in {node}" in fails(capsys, 4, *command)
        assert "p2pcap join" in fails(capsys, 4, *command, "--node", str(node))
        assert "nowhere" in fails(capsys, 4, *command, "--node", "nowhere")


def test_with_several_nodes_one_has_to_be_named(tmp_path: Path, capsys: Capture) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with running(one), running(two):
        told = fails(capsys, 2, "ticket")
        assert str(one) in told
        assert "--node" in told
        assert ok(capsys, "ticket", "--node", str(one)) == "p2pcap:abc\n"
        assert ok(capsys, "ticket", "--node", "two") == "p2pcap:abc\n"
        assert "2 nodes are called Attic" in fails(capsys, 2, "ticket", "--node", "Attic")


def test_the_node_may_come_from_the_environment(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCAP_NODE", str(tmp_path / "one"))
    with running(tmp_path / "one"), running(tmp_path / "two"):
        assert ok(capsys, "ticket") == "p2pcap:abc\n"


def test_several_ended_nodes_have_to_be_told_apart(user_home: Path, capsys: Capture) -> None:
    with ended(user_home / "projects" / "a"), ended(user_home / "projects" / "b"):
        assert "--node" in fails(capsys, 2, "query", "SELECT 1")
        assert ok(capsys, "query", "SELECT 1 AS one", "-q", "--node", "b") == "1\n"


# status


def test_status_as_json_is_exactly_the_snapshot(node: Path, capsys: Capture) -> None:
    with running(node):
        out = ok(capsys, "status", "--json")
    assert decode(out) == SNAPSHOT
    assert json.loads(out)["peers"][0]["name"] == "bob\x1b[2J"
    assert out.count("\n") == 1


def test_status_for_people_is_plain_text(node: Path, capsys: Capture) -> None:
    with running(node):
        out = ok(capsys, "status")
    for part in (
        ADA.peer_id,
        '"attic"',
        "volunteer",
        "Shapes (abababababababab), manifest 1",
        "66 of 128 images (51.6 %), 1 of 2 chunks",
        "65 captioned, 1 errors",
        "engine      ready, restarted 1 times, CPU",
        "3.25 images/s, 2.90 on average, 64 in hand",
        "chunk 1: 2 of 64, lease 29s",
        "12 ms",
        "2 engines ready",
        "network     behind a router or firewall (port mapping: no router answers UPnP); reached through 2 relays",
        "3 connections in, 8 out, 2 of them through relays; 64 at most; 40 peers known, 1 banned",
        "1.5 MB sent, 12.0 kB received; content 1.2 MB up (limit 500.0 kB/s), 0 B down",
        "all statements compared with a peer: ",
        "carries 1 connections for others, 999 B so far",
        "kept here   60 of 66 rows counted (store share)",
        "out, relayed",
    ):
        assert part in out
    assert "\x1b" not in out
    assert all(letter.isprintable() or letter == "\n" for letter in out)


def test_status_says_which_errors_there_are() -> None:
    codes = tuple((f"code-{number}", 20 - number) for number in range(10))
    for failures, shown in (((), None), (codes[:2], "20 code-0, 19 code-1;"), (codes, "13 code-7, …;")):
        project = msgspec.structs.replace(SNAPSHOT.project, failures=failures)
        said = [
            line for line in described(msgspec.structs.replace(SNAPSHOT, project=project), NOW) if "errors:" in line
        ]
        assert len(said) == (shown is not None)
        assert all(shown and shown in line for line in said)


def test_status_says_how_far_each_stage_is_and_who_rests() -> None:
    stages = (
        StageInfo("look", "large", ("What is it?",), 128, finished=True),
        StageInfo("short", "tiny", ("Shorten: {look.caption}",), 40, paused=True),
    )
    project = msgspec.structs.replace(SNAPSHOT.project, stages=stages, paused=True)
    text = "\n".join(described(msgspec.structs.replace(SNAPSHOT, project=project), NOW))
    for part in (
        "look: large: What is it?; 128 of 128 images, finished",
        "short: tiny: Shorten: {look.caption}; 40 of 128 images, paused",
        "PAUSED",
    ):
        assert part in text
    assert "asks  " not in text
    assert "PAUSED" not in "\n".join(described(SNAPSHOT, NOW))


def test_status_of_a_node_without_project_or_engine() -> None:
    bare = NodeSnapshot(NOW + 7.0, SNAPSHOT.node, ProjectInfo("Shapes", "ab" * 32))
    text = "\n".join(described(bare, NOW + 7.0))
    assert "not received yet" in text
    assert "does not caption" in text
    assert "up 7s" in text


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (NetworkInfo(), "not known yet whether others can dial this node"),
        (NetworkInfo("public", ("direct",)), "others can dial this node"),
        (
            NetworkInfo("public", ("port mapping",), port_mapping="the router forwards 192.0.2.1 port 4 (UPnP)"),
            "others can dial this node (port mapping: the router forwards 192.0.2.1 port 4 (UPnP)); reached through "
            "port mapping",
        ),
        (NetworkInfo("private"), "behind a router or firewall; nobody can reach it, it can dial others"),
        (
            NetworkInfo("unknown", ("relay",), relays=("a",)),
            "not known yet whether others can dial this node; reached through 1 relays",
        ),
    ],
)
def test_where_a_node_stands_in_words(network: NetworkInfo, words: str) -> None:
    assert reached(network) == words


def test_sizes_have_one_unit() -> None:
    sizes = [size(count) for count in (0, 999, 1_000, 1_500_000, 2 * 10**9, 3 * 10**12, 4 * 10**15)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3.0 TB", "4000.0 TB"]


def test_metrics_are_printed_as_they_are(node: Path, capsys: Capture) -> None:
    with running(node):
        assert ok(capsys, "metrics") == exposition(SNAPSHOT)


def test_following_ends_with_the_node(node: Path) -> None:
    code = "import sys; from p2pcap.cli.main import main; main(['status', '--json', '--follow'])"
    with running(node):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
    with process:
        rest = process.stdout.read()
    assert process.returncode == 0
    assert {decode(line) for line in (first + rest).splitlines()} == {SNAPSHOT}


def test_durations_have_two_units() -> None:
    assert [duration(s) for s in (0, 7.9, 130, 3_600, 90_061, -5)] == ["0s", "7s", "2m 10s", "1h 0m", "1d 1h", "0s"]


# query

SQL = "SELECT key, item, caption, answers, time FROM captions WHERE item < 2 AND chunk = 0 ORDER BY item"


@BOTH
def test_queries_in_every_form(state: State, node: Path, capsys: Capture) -> None:
    with state(node):
        rows = json.loads(ok(capsys, "query", SQL, "--json"))
        assert rows[1] == {
            "key": "photos/000/00001.png",
            "item": 1,
            "caption": "a red circle 0/1",
            "answers": {"describe": "a red circle 0/1", "objects": "circle"},
            "time": "2027-01-15T08:00:00",
        }
        people = ok(capsys, "query", SQL).splitlines()
        assert people[0].split() == ["key", "item", "caption", "answers", "time"]
        assert len(people) == 3
        records = list(csv.DictReader(io.StringIO(ok(capsys, "query", SQL, "--csv"))))
        assert json.loads(records[0]["answers"]) == {"describe": "a red circle 0/0", "objects": "circle"}
        assert ok(capsys, "query", SQL, "-q") == "photos/000/00000.png\nphotos/000/00001.png\n"
        assert json.loads(ok(capsys, "query", "SELECT id FROM statement LIMIT 1", "--json"))[0]["id"].isalnum()


@BOTH
def test_no_rows_and_too_many(state: State, node: Path, capsys: Capture) -> None:
    with state(node):
        assert run(["query", "SELECT key FROM captions WHERE false"]) == 0
        assert capsys.readouterr() == ("", "no rows\n")
        assert ok(capsys, "query", "SELECT key FROM captions WHERE false", "--json") == "[]\n"
        assert ok(capsys, "query", "SELECT key FROM captions WHERE false", "--csv") == "key\n"
        assert run(["query", "FROM range(10)", "--rows", "3", "-q"]) == 0
        out, err = capsys.readouterr()
        assert out == "0\n1\n2\n"
        assert "first 3 rows" in err


@BOTH
@pytest.mark.parametrize(
    "sql", ["DELETE FROM candidate", "SELECT nope", "SELECT 1; SELECT 2", "", "SELECT * FROM read_csv('/etc/passwd')"]
)
def test_bad_sql_is_one_message(state: State, node: Path, capsys: Capture, sql: str) -> None:
    with state(node):
        assert fails(capsys, 2, "query", sql)


def test_sql_may_come_from_standard_input(node: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT count(*) FROM captions"))
    with ended(node):
        assert ok(capsys, "query", "-", "-q") == "66\n"


def test_no_form_lets_text_steer_a_terminal_or_a_spreadsheet(node: Path, capsys: Capture) -> None:
    sql = r"SELECT chr(27) || '[2J' || chr(155) || chr(8238) || 'x' AS a, '=cmd()' AS b, '-1' AS c, -1 AS d"
    with ended(node):
        for form in ([], ["--json"], ["--csv"], ["-q"]):
            out = ok(capsys, "query", sql, *form)
            assert all(letter.isprintable() or letter == "\n" for letter in out)
        assert ok(capsys, "query", sql, "--csv").splitlines()[1] == "[2Jx,'=cmd(),'-1,-1"
        assert json.loads(ok(capsys, "query", sql, "--json"))[0]["a"] == "\x1b[2J\x9b\u202ex"


def test_a_reader_that_has_enough_ends_it_quietly(node: Path) -> None:
    program = f"{sys.executable} -c 'from p2pcap.cli.main import main; main()'"
    with ended(node):
        piped = f"{program} query 'FROM range(900000)' -q | head -1"
        told = subprocess.run(piped, shell=True, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("0\n", "")


# export, verify, table-hash


def test_running_and_ended_nodes_export_the_same(node: Path, tmp_path: Path, capsys: Capture) -> None:
    with running(node):
        ok(capsys, "export", "jsonl", str(tmp_path / "a.jsonl"), "--proofs")
        first_hash = ok(capsys, "table-hash")
    ok(capsys, "export", "jsonl", str(tmp_path / "b.jsonl"), "--proofs")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert ok(capsys, "table-hash") == first_hash
    assert len(first_hash) == 65
    assert verify_file(tmp_path / "a.jsonl").images == 66


def test_an_export_says_what_it_wrote_and_keeps_what_is_there(node: Path, tmp_path: Path, capsys: Capture) -> None:
    destination = tmp_path / "out.jsonl"
    with ended(node):
        assert run(["export", "jsonl", str(destination)]) == 0
        assert "65 images, 65 captioned rows, 0 error rows; left out: 1 errors" in capsys.readouterr().err
        assert "--force" in fails(capsys, 2, "export", "jsonl", str(destination))
        ok(capsys, "export", "jsonl", str(destination), "--force")
        assert "no folder" in fails(capsys, 2, "export", "jsonl", str(tmp_path / "missing" / "out.jsonl"))
        assert ok(capsys, "export", "jsonl", "-") == destination.read_text()


def test_verify_tells_good_from_bad(node: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "out.jsonl"
    with ended(node):
        ok(capsys, "export", "jsonl", str(path), "--proofs")
    assert run(["verify", str(path)]) == 0
    assert "66 rows" in capsys.readouterr().err
    path.write_text(path.read_text().replace("a red circle 0/7", "a red circle 0/8", 1))
    assert "line 8" in fails(capsys, 5, "verify", str(path))
    assert "cannot be read" in fails(capsys, 2, "verify", str(tmp_path / "missing"))


# pause, finish, resume


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["pause"], "paused; p2pcap resume goes on"),
        (["pause", "1h30m"], f"paused until {clock_time(NOW + 5_400, time.time())}"),
        (["finish"], "finishing what is in hand, then paused"),
        (["resume"], "your pause is over, but it still waits: it is night"),
    ],
)
def test_what_a_node_is_told(node: Path, capsys: Capture, typed: list[str], said: str) -> None:
    with running(node):
        assert run(typed) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1_800), ("2H", 7_200), ("1d12h", 129_600), ("1h0m5s", 3_605)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "2", "0s", "1.5h", "-2h", "2h30", "m", "h2", "367d", "2 weeks", "٢h", "nan"])
def test_what_is_no_length_of_time(text: str, capsys: Capture) -> None:
    assert "no length of time" in fails(capsys, 2, "pause", "--", text)


def test_status_says_what_a_node_does_and_until_when() -> None:
    paused = msgspec.structs.replace(
        SNAPSHOT.node, state="paused", state_why="you paused it", paused_until=float(NOW + 60)
    )
    text = "\n".join(described(msgspec.structs.replace(SNAPSHOT, node=paused), NOW))
    assert f"state       paused: you paused it, until {clock_time(NOW + 60, NOW)}" in text
    away = NodeSnapshot(float(NOW), paused, SNAPSHOT.project)
    assert "engine      none now" in "\n".join(described(away, NOW))


# stop

LIVE = """
import sys
from pathlib import Path
import trio
from p2pcap.project.ticket import Ticket
from tests.unit.control_node import controlled

async def main():
    async with controlled(Path(sys.argv[1])) as node:
        print("up", flush=True)
        await node.stopped.wait()

trio.run(main)
"""


def test_stop_waits_for_the_end(node: Path, capsys: Capture) -> None:
    with subprocess.Popen([sys.executable, "-c", LIVE, str(node)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert run(["stop"]) == 0
        assert process.wait(30) == 0
    assert "stopped" in capsys.readouterr().err
    assert running_node(node) is None


def test_a_node_that_does_not_end_is_said(node: Path, capsys: Capture) -> None:
    with running(node):  # in this process, which will not end
        assert f"kill -9 {os.getpid()}" in fails(capsys, 4, "stop", "--seconds", "0.1")
        assert ok(capsys, "ticket") == "p2pcap:abc\n"


def test_the_database_in_use_is_said_with_the_process(node: Path, capsys: Capture, runtime: Path) -> None:
    """A node whose socket is gone, as when its temporary folder was cleaned up, still holds its file."""
    with subprocess.Popen([sys.executable, "-c", LIVE, str(node)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for path in runtime.iterdir():
            path.unlink()
        assert f"process {process.pid}" in fails(capsys, 1, "query", "SELECT 1")
        process.kill()


def test_status_says_what_this_node_checked() -> None:
    def shown(audit: AuditInfo) -> str:
        return "\n".join(described(msgspec.structs.replace(SNAPSHOT, audit=audit), NOW))

    said = shown(AuditInfo(True, 40, 2, 1, 7))
    assert "checks      as a verifier: 43 captions, 2 of them wrong, 1 unsure; 7 results wait" in said
    assert "checks      as any volunteer" in shown(AuditInfo(False, 1))
    assert "checks  " not in shown(AuditInfo())


@pytest.mark.parametrize("wrong", ["foo =", "nosuch > 3"])
def test_a_filter_that_does_not_run_is_named_as_it_was_typed(node: Path, capsys: Capture, wrong: str) -> None:
    """DuckDB points into a query that nobody typed."""
    with running(node):
        said = fails(capsys, 2, "export", "jsonl", "-", "--where", wrong)
    assert said.startswith(f"--where '{wrong}' may be wrong; docs/export.md")
    assert "The query does not run" in said


def test_a_node_that_captions_nothing_says_what_ends_it(tmp_path: Path) -> None:
    ticket = Ticket("Cats", bytes(32))
    node = Node(NodeOptions(tmp_path / "watching", "observer", ticket), lambda line: None)
    try:
        with pytest.raises(ConfigError, match="nothing to pause, finish or resume"):
            trio.run(node.finish)
    finally:
        trio.run(node.store.close)
