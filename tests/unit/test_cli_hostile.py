"""Strangers' text in everything that a node tells: none of it reaches a terminal as more than text.

A node is filled with names, captions, keys, addresses, titles, log lines and errors that try to steer the terminal, to
turn the direction of its text, or to look like something else. Every command that reads is run on it, in each form.
"""

import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from p2pcap.cli import live
from p2pcap.cli.main import run
from p2pcap.cli.output import clean
from p2pcap.errors import P2pcapError
from p2pcap.ledger.records import Answer, Row
from p2pcap.node import client as node_client
from p2pcap.node.metrics import exposition
from p2pcap.node.options import NodeOptions
from p2pcap.node.snapshot import (
    ContributorInfo,
    CountInfo,
    EngineInfo,
    EngineUnit,
    NetworkInfo,
    NodeInfo,
    NodeSnapshot,
    PeerInfo,
    ProjectInfo,
    StageInfo,
    StandingInfo,
)
from p2pcap.project.items import Item, ItemList
from p2pcap.project.ticket import Ticket
from tests.unit import control_node
from tests.unit.control_node import running, runtime
from tests.unit.store_project import ADA, BOB, NOW, image_of, sample_of

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

Capture = pytest.CaptureFixture[str]

EVIL = (
    "e\x1b[2J\x1b]0;owned\x07\x1bPq\x9b31m\x90\x85\x7f\r\b\x00"
    "\u202edetrevni\u2066\u2069\u200e\u061c\u2028x\u2029\U000e0041\ufeffz"
)
"""Colours, the title, a device control string, one-byte codes (C1), DEL, carriage return and backspace, the turns of
direction, line separators, tags and a byte order mark."""

ALLOWED = {"\n", "\t"}


def hostile(kind: type[msgspec.Struct], **known: object) -> object:
    """A value of a kind of snapshot whose every text is `EVIL`."""
    values = {field.name: EVIL for field in msgspec.structs.fields(kind) if field.type is str}
    return kind(**{**values, **known})


def snapshot() -> NodeSnapshot:
    unit = hostile(EngineUnit, temperature=50, power=1.0)
    return NodeSnapshot(
        published=NOW,
        node=hostile(NodeInfo, pid=1, started=NOW, addresses=(EVIL,)),  # type: ignore[arg-type]
        project=hostile(  # type: ignore[arg-type]
            ProjectInfo,
            images=2,
            wanted=2,
            done=1,
            prompts=(EVIL,),
            warnings=(EVIL,),
            failures=((EVIL, 1),),
            stages=(hostile(StageInfo, prompts=(EVIL,)), hostile(StageInfo, prompts=(EVIL,))),
        ),
        engine=hostile(EngineInfo, notices=(EVIL,), units=(unit, unit)),  # type: ignore[arg-type]
        peers=(hostile(PeerInfo, direction="in"),),  # type: ignore[arg-type]
        contributors=(hostile(ContributorInfo, rows=1, errors=0, standing=hostile(StandingInfo)),),  # type: ignore[arg-type]
        network=NetworkInfo(port_mapping=EVIL, relays=(EVIL,), external=(EVIL,), troubles=(EVIL,)),
        counts=(hostile(CountInfo, times=1),),  # type: ignore[arg-type]
        standing=StandingInfo(captions=1, checked=1, why=EVIL),
    )


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running node that is full of it."""
    monkeypatch.setattr(control_node, "SNAPSHOT", snapshot())
    monkeypatch.setattr(control_node.ControlledNode, "ticket", lambda self: EVIL)
    key = "".join(letter for letter in EVIL if letter != "\0")
    made = sample_of([ItemList((Item(key, b"\1" * 32, 5), Item("b" + key, b"\2" * 32, 5)))], "Shapes")
    answers = (Answer(EVIL, 7, "stop"), Answer(EVIL, 1, "stop"))
    good = Row(0, image_of(made.items[0][0]), answers)
    bad = Row(1, image_of(made.items[0][1]), (), "undecodable", key[:100])
    writes = [*made.setup, made.grant(ADA, "Ada"), made.batch(ADA, 0, [good]), made.batch(BOB, 0, [bad])]
    folder = tmp_path / "node"
    with running(folder, writes):
        (folder / "node.jsonl").write_bytes(
            json.dumps({"event": EVIL, "level": EVIL, "timestamp": EVIL, EVIL: EVIL}).encode() + b"\n"
            + EVIL.encode("utf-8", "replace") + b"\n\xff\xfe\x9b2J\n"
        )  # fmt: skip
        yield folder


def harmless(text: str) -> bool:
    return all(letter in ALLOWED or (letter.isprintable() and unicodedata.category(letter) != "Cf") for letter in text)


READING = [
    ["status"],
    ["status", "--json"],
    ["status", "-q"],
    ["peers"],
    ["peers", "--json"],
    ["peers", "-q"],
    ["contributors"],
    ["contributors", "--json"],
    ["contributors", "-q"],
    ["failures"],
    ["failures", "--json"],
    ["failures", "-q"],
    ["query", "SELECT * FROM captions"],
    ["query", "SELECT * FROM captions", "--json"],
    ["query", "SELECT caption, key, answers FROM captions", "--csv"],
    ["query", "SELECT caption FROM captions", "-q"],
    ["query", f'SELECT 1 AS "{EVIL.replace(chr(0), "")}"'],
    ["query", f"SELECT {EVIL.replace(chr(0), '')}"],
    ["log"],
    ["log", "--json"],
    ["log", "-q"],
    ["metrics"],
    ["ticket"],
    ["ticket", "--json"],
    ["table-hash"],
    ["paths"],
    ["paths", "--json"],
    ["doctor", "--offline", "--quick"],
    ["doctor", "--offline", "--quick", "--json"],
    ["doctor", "--offline", "--quick", "--redacted"],
    ["export", "jsonl", "-"],
    ["export", "jsonl", "-", "--proofs"],
    ["pause"],
    ["resume"],
]


@pytest.mark.parametrize("words", READING, ids=lambda words: " ".join(map(clean, words)))
def test_no_command_lets_it_through(node: Path, capsys: Capture, words: list[str]) -> None:
    code = run([*words, *(() if words[0] == "doctor" else ("--node", str(node)))])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "defect" not in said.err
    assert code in (0, 1, 2)
    assert said.out or said.err
    for text in said:
        assert harmless(text), repr(text)


def test_json_says_it_as_it_was(node: Path, capsys: Capture) -> None:
    assert run(["status", "--json", "--node", str(node)]) == 0
    assert json.loads(capsys.readouterr().out)["peers"][0]["name"] == EVIL
    assert run(["query", "SELECT answers['describe'] AS a FROM captions", "--json", "--node", str(node)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["a"] == EVIL


def test_files_proofs_and_what_is_checked(node: Path, tmp_path: Path, capsys: Capture) -> None:
    parquet, proven, proof = (str(tmp_path / name) for name in ("a.parquet", "a.jsonl", "a.proof"))
    for words in (
        ["export", "parquet", parquet, "--node", str(node)],
        ["export", "jsonl", proven, "--proofs", "--node", str(node)],
        ["export", "txt", str(tmp_path / "txt"), "--json", "--node", str(node)],
        ["proof", "0/0", proof, "--node", str(node)],
        ["verify", parquet],
        ["verify", proven],
        ["verify", proof],
        ["verify", proof, "--json"],
        ["inspect", parquet],
        ["inspect", parquet, "--json"],
        ["inspect", proof],
        ["inspect", str(node / "node.key")],
    ):
        run(words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "defect" not in said.err
        for text in said:
            assert harmless(text), (words, repr(text))


def test_a_ticket_whose_project_has_such_a_name(capsys: Capture) -> None:
    text = str(Ticket("x\x9b\u202ey", b"\1" * 32, None, ()))
    for words in ([], ["--json"], ["-q"]):
        run(["ticket", "show", text, *words])
        assert harmless("".join(capsys.readouterr()))
    run(["inspect", text])
    assert harmless("".join(capsys.readouterr()))


def test_an_error_that_a_node_reports_in_its_own_words(
    node: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: object) -> None:
        raise P2pcapError(f"{EVIL}\n{EVIL}")

    monkeypatch.setattr(node_client.Client, "status", breaks)
    for debug in ("0", "1"):
        monkeypatch.setenv("P2PCAP_DEBUG", debug)
        assert run(["status", "--node", str(node)]) == 1
        told = capsys.readouterr().err
        assert harmless(told), repr(told)
        assert ("Traceback" in told) == (debug == "1")


@pytest.mark.parametrize("words", [["status", EVIL[:-1]], [f"--{EVIL}"], ["log", "--level", EVIL], ["service", EVIL]])
def test_what_was_typed_is_quoted_without_its_controls(words: list[str], capsys: Capture) -> None:
    assert run([word.replace("\0", "") for word in words]) == 2
    assert harmless(capsys.readouterr().err)


def test_the_line_of_a_node_in_the_foreground(tmp_path: Path, capsys: Capture) -> None:
    shown = live.Live(NodeOptions(tmp_path, "volunteer", Ticket(EVIL, bytes(32))))
    shown.say(EVIL)
    shown.progress(snapshot())
    assert harmless(capsys.readouterr().err)


def test_csv_as_it_is_goes_to_files_and_programs_and_to_no_terminal(node: Path) -> None:
    command = [sys.executable, "-m", "p2pcap", "export", "csv", "-", "--node", str(node)]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert EVIL.replace("\0", "").encode() in piped.stdout
    assert b"wrote to standard output: " in piped.stderr
    leader, terminal = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0), os.fdopen(terminal, "wb", buffering=0) as shown:
        done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "pipe it" in done.stderr) == (2, True)


def test_metrics_are_still_what_prometheus_reads(node: Path, capsys: Capture) -> None:
    assert run(["metrics", "--node", str(node)]) == 0
    told = capsys.readouterr().out
    assert told.endswith("\n")
    assert [line.partition("{")[0].split()[:1] for line in told.splitlines()] == [
        line.partition("{")[0].split()[:1] for line in exposition(snapshot()).split("\n")[:-1]
    ]


WRITES_ITSELF = {
    "engine_checks.py": "has another process print, and reads that",
    "output.py": "is the one that writes",
    "terminal.py": "writes what live.py has cleaned, and wipes its own line",
    "ticket.py": "draws a code of its own letters in colours of its own",
    "query.py": "writes JSON with escapes, and CSV without controls",
    "export.py": "writes JSON with escapes",
    "looking.py": "asks in words of its own, and gives the terminal back as it was",
}


def test_nothing_else_in_the_commands_writes_to_the_terminal() -> None:
    folder = Path(live.__file__).parent
    for path in (*folder.glob("*.py"), *(folder.parents[1] / "bootstrap" / "p2pcap_bootstrap").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        writes = any(
            word in text
            for word in ("click.echo(", "click.secho(", "print(", "sys.stdout.b", "sys.stdout.w", "sys.stderr.w")
        )
        assert not writes or path.name in WRITES_ITSELF, f"{path.name}: use p2pcap.cli.output"
