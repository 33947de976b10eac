"""Wrong input to every command: what was typed is no such thing, and one message says so and what to do.

Each command that takes a file or folder is given what is none, one kind after the other, and has to end with a code of
the table, without a traceback, and without taking the user's mistake for a defect of its own.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pcap.cli.exits import MEANINGS
from p2pcap.cli.main import program, run
from p2pcap.cli.reference import commands
from tests.unit.control_node import runtime

__all__ = ["runtime"]

Capture = pytest.CaptureFixture[str]

HUGE = 3 * 1024**3
"""Bytes of a file with nothing in it: more than any of these may be, and none of it on the disk."""

X = "{x}"
FILES: dict[str, list[str]] = {
    "join": ["join", X, "--node", "{new}"],
    "join --config": ["join", "--config", X],
    "join --project": ["join", "p2pcap:abc", "--project", X],
    "bench": ["bench", X, "--node", "{new}"],
    "doctor": ["doctor", X, "--offline", "--quick"],
    "seed": ["seed", X, "{folder}"],
    "ticket show": ["ticket", "show", X],
    "key new": ["key", "new", f"{X}/a/b"],
    "key show": ["key", "show", X],
    "key passphrase": ["key", "passphrase", X, "--remove"],
    "key passphrase file": ["key", "new", "{new}", "--passphrase-file", X],
    "key import": ["key", "import", X, "{new}"],
    "key export": ["key", "export", X, "{new}", "--plain"],
    "key rotate": ["key", "rotate", X],
    "key sign-root": ["key", "sign-root", X],
    "verify": ["verify", X],
    "verify --project": ["verify", "{garbage}", "--project", X],
    "inspect": ["inspect", X],
    "index": ["index", X, "--output", "{new}"],
    "import": ["import", X, "{folder}"],
    "import into": ["import", "{garbage}", X],
    "project check": ["project", "check", X],
    "project check --config": ["project", "check", "--config", X],
    "project diff": ["project", "diff", X],
    "project show": ["project", "show", X],
    "project sign": ["project", "sign", X],
    "project pause": ["project", "pause", X],
    "project resume": ["project", "resume", X],
    "project publish": ["project", "publish", X],
    "project pull": ["project", "pull", X],
    "project init": ["project", "init", f"{X}/a", "--images", "{folder}", "--model", "{garbage}"],
    "bootstrap serve": ["bootstrap", "serve", X],
    "invite": ["invite", X],
    "ban": ["ban", X, "bob", "--yes"],
    "revoke": ["revoke", X, "team", "--yes"],
    "void": ["void", X, "ab" * 32, "--yes"],
    "redact": ["redact", X, "a.png", "--reason", "r", "--yes"],
    "grant": ["grant", X, "12D3KooW", "--yes"],
    "fsck": ["fsck", X],
    "service install": ["service", "install", "--print", "--node", X],
    "snapshot": ["snapshot", f"{X}/a", "--node", "{folder}"],
    **{
        f"{name} --node": [*name.split(), *arguments, "--node", X]
        for name, arguments in {
            "status": [],
            "peers": [],
            "contributors": [],
            "failures": [],
            "log": [],
            "metrics": [],
            "pause": [],
            "resume": [],
            "finish": [],
            "stop": [],
            "ticket": [],
            "table-hash": [],
            "query": ["SELECT 1"],
            "proof": ["a", "{new}"],
            "export jsonl": ["{new}"],
            "export hub": ["o/n"],
            "export attribution": ["{new}"],
        }.items()
    },
}
"""What is typed; {x} is what is none, {new} a path that nothing has, {folder} an empty folder."""

NOWHERE = "http://127.0.0.1:9"
"""A Hub that refuses every connection."""

TELLS = {"doctor", "inspect"}
"""Commands whose result it is to say what is wrong."""


def _missing(path: Path) -> None:
    pass


def _folder(path: Path) -> None:
    path.mkdir()


def _empty(path: Path) -> None:
    path.touch()


def _garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def _text(path: Path) -> None:
    path.write_text('PAR1 {"p2pcap_proof": [}: hello\n- [\n' * 20)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, HUGE)


def _loop(path: Path) -> None:
    path.symlink_to(path)


KINDS: tuple[Callable[[Path], None], ...] = (_missing, _folder, _empty, _garbage, _text, _huge, _loop)

MAKES = {"key new": (_missing, _folder)}
"""Where a command makes what is not there."""


@pytest.fixture
def user(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, folder in {"HOME": "home", "P2PCAP_HOME": "nodes", "XDG_CONFIG_HOME": "config"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def check(words: list[str], capsys: Capture, name: str) -> None:
    code = run(words)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "defect" not in err, err
    assert code in MEANINGS
    if name in TELLS:
        assert out + err
        return
    assert code in (1, 2, 4, 5), err
    *_, last = err.splitlines()
    assert len(last) < 500, last
    assert last.endswith((".", "help", "?")) or ":" in last or "--" in last, f"it says what to do: {last}"


@pytest.mark.parametrize("name", list(FILES))
def test_what_is_no_such_thing_is_said(user: Path, name: str, capsys: Capture) -> None:
    for kind in KINDS:
        if kind in MAKES.get(name, ()):
            continue
        place = user / kind.__name__
        x, folder, garbage = place / "x", place / "folder", place / "garbage"
        folder.mkdir(parents=True)
        kind(x)
        garbage.write_bytes(b"garbage")
        places = {"x": str(x), "new": str(place / "new"), "folder": str(folder), "garbage": str(garbage)}
        check([word.format(**places) for word in FILES[name]], capsys, name)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("project init")])
def test_what_is_closed_to_this_user_is_said(
    open_to_all: Path, name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "P2PCAP_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(open_to_all / variable))
    monkeypatch.setattr(tempfile, "tempdir", str(open_to_all))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.chdir(open_to_all)
    closed, folder = open_to_all / "closed", open_to_all / "folder"
    closed.mkdir()
    folder.mkdir()
    (folder / "garbage").write_bytes(b"garbage")
    closed.chmod(0)
    garbage, new = str(folder / "garbage"), str(open_to_all / "new")
    for x in (closed, closed / "x"):
        places = {"x": str(x), "new": new, "folder": str(folder), "garbage": garbage}
        check([word.format(**places) for word in FILES[name]], capsys, name)
    closed.chmod(0o700)


NAMELESS = {
    "completion": "takes a shell's name",
    "paths": "needs nothing",
    "tui": "needs a terminal first",
    "service status": "needs nothing",
    "service uninstall": "needs nothing",
    "project calibrate": "needs an engine first",
}


def test_every_command_is_among_these() -> None:
    root = program.make_context("p2pcap", [], resilient_parsing=True)
    names = {context.command_path.removeprefix("p2pcap ") for _, context in commands(program, root)}
    leaves = {name for name in names if not any(other.startswith(f"{name} ") for other in names)}
    tried = {name for name in leaves if any(what == name or what.startswith(f"{name} ") for what in FILES)}
    assert {name for name in leaves - tried - NAMELESS.keys() if not name.startswith("export ")} == set()


@pytest.mark.parametrize(
    "words",
    [
        ["paths"],
        ["--help"],
        ["paths", "--json"],
        ["completion", "bash"],
        ["doctor", "--offline", "--quick"],
        ["join", "-h"],
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_it_quietly(words: list[str], user: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "p2pcap", *words]
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 1


def test_a_full_device_is_said(user: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "p2pcap", "paths"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "no room" in done.stderr, "defect" in done.stderr) == (1, True, False)


@pytest.mark.parametrize("text", ["x" * 100_000, "\udcff", "", "-", "\n", "~nobody.here", "/"])
@pytest.mark.parametrize(
    "words",
    [["ticket", "show"], ["verify"], ["inspect"], ["key", "show"], ["status", "--node"], ["fsck"], ["project", "show"]],
    ids=" ".join,
)
def test_words_that_are_no_path(
    user: Path, words: list[str], text: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        check([*words, text], capsys, "inspect")
