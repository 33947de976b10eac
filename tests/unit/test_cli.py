"""The program as people and scripts meet it: exit codes, output, what it loads."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from p2pcap import errors
from p2pcap.cli import exits, main, output
from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.join import ticket_text
from p2pcap.cli.main import COMMANDS, program, run
from p2pcap.cli.reference import LISTED, commands, reference, summaries
from p2pcap.errors import ConfigError, ImageError, P2pcapError, TicketError

HEAVY = {
    "textual",
    "p2pcap_tui",
    "libp2p",
    "trio",
    "duckdb",
    "pyarrow",
    "vllm",
    "torch",
    "transformers",
    "PIL",
    "structlog",
    "numpy",
    "multiaddr",
}


def every_error() -> list[type[P2pcapError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, P2pcapError)]


def p2pcap(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The installed program, as a process of its own."""
    command = [sys.executable, "-c", "from p2pcap.cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_each_error_class_has_one_documented_code() -> None:
    for kind in every_error():
        error = ImageError("empty", "no bytes") if issubclass(kind, ImageError) else kind("what happened")
        assert exits.exit_code(error) in exits.MEANINGS
    expected = {
        "ConfigError": 2,
        "TicketError": 2,
        "ModelError": 2,
        "QueryError": 2,
        "KeyFileError": 2,
        "NotRunningError": 4,
        "UntrustedError": 5,
        "EngineStartError": 6,
        "AddressInUse": 7,
        "Unreachable": 7,
        "StoreError": 1,
    }
    assert {name: exits.exit_code(getattr(errors, name)("x")) for name in expected} == expected
    assert exits.exit_code(ValueError()) == 1
    assert exits.exit_code(KeyboardInterrupt()) == 130


def test_the_help_names_every_code_and_command() -> None:
    told = p2pcap("--help")
    assert told.returncode == 0
    for code, meaning in exits.MEANINGS.items():
        assert re.search(rf"^ +{code}  {meaning}$", told.stdout, re.MULTILINE)
    assert {*COMMANDS, "project", "bootstrap"} <= set(re.findall(r"^  ([a-z-]+)  ", told.stdout, re.MULTILINE))


@pytest.mark.parametrize("arguments", [["--help"], *(["--help", name] for name in COMMANDS), ["status"], ["paths"]])
def test_nothing_heavy_is_loaded_for_little(arguments: list[str], tmp_path: Path) -> None:
    """Also not for asking a running node: the client needs the standard library alone."""
    code = (
        "import sys; from p2pcap.cli.main import run; run(sys.argv[1:]); "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    environment = os.environ | {"P2PCAP_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    arguments = [*reversed(arguments)]
    told = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    assert set(told.stdout.splitlines()[-1].split()) & HEAVY == set()


def test_the_help_loads_these_modules_and_no_other_of_ours() -> None:
    code = (
        "import sys; from p2pcap.cli.main import run; run(['--help']); "
        "print(*sorted(name for name in sys.modules if name.partition('.')[0].startswith('p2pcap')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(told.stdout.splitlines()[-1].split()) == {
        "p2pcap",
        "p2pcap.cli",
        "p2pcap.cli.exits",
        "p2pcap.cli.main",
        "p2pcap.cli.output",
        "p2pcap.cli.summaries",
        "p2pcap.errors",
        "p2pcap.export",
        "p2pcap.export.escape",
    }


def test_the_help_says_of_each_command_what_it_says_itself() -> None:
    assert LISTED.read_text() == summaries()


def test_every_command_has_help_and_examples_and_every_option_a_variable() -> None:
    context = program.make_context("p2pcap", [], resilient_parsing=True)
    for command, inner in commands(program, context):
        told = " ".join(command.get_help(inner).split())
        assert command.help, inner.command_path
        assert isinstance(command, click.Group) or "Example" in (command.epilog or ""), inner.command_path
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert told.count("[env var:") == len(options), inner.command_path
        assert all(option.help or isinstance(option.type, click.Choice) for option in options), inner.command_path


def test_the_reference_depends_on_nothing_but_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = reference()
    for name in ("HOME", "COLUMNS", "P2PCAP_HOME", "P2PCAP_NODE", "P2PCAP_JOIN_NAME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    assert reference() == first
    assert all(f"## p2pcap {name}" in first for name in COMMANDS)
    assert str(Path.home()) not in first


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["nope"], 2), (["status", "--nope"], 2), (["query"], 2), (["--version"], 0), (["query", "--help"], 0), ([], 2)],
)
def test_misuse_is_exit_code_2(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "meant"), [("jion", "'join'"), ("bootstrp", "'bootstrap'"), ("zzzzz", "")])
def test_a_command_that_was_mistyped_is_told_what_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed]) == 2
    said = capsys.readouterr().err
    assert f"No such command '{typed}'." in said
    assert ("Did you mean" in said) == bool(meant)
    assert meant in said


def test_every_option_that_is_a_number_with_a_point_is_finite() -> None:
    root = program.make_context("p2pcap", [], resilient_parsing=True)
    kinds = [option.type for command, _ in commands(program, root) for option in command.params]
    numbers = [kind for kind in kinds if isinstance(kind, click.types.FloatParamType)]
    assert len(numbers) >= 7
    assert {type(number) for number in numbers} == {FiniteRange}


@pytest.mark.parametrize("number", ["nan", "-nan", "inf", "1e999", "x"])
def test_what_is_no_number_is_misuse(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--seconds", number]) == 2
    assert run(["join", "--upload-limit", number]) == 2
    said = capsys.readouterr().err
    assert "--seconds" in said
    assert "--upload-limit" in said


@pytest.mark.parametrize("text", ["x" * 5_000, f" \n\ufeff {'a' * 300}", "p2pcap", "a\0b", " p2pcap:abc", "", "/"])
@pytest.mark.parametrize("command", ["join", "bench"])
def test_a_ticket_that_was_pasted_badly_is_no_defect(
    command: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, text, "--node", str(tmp_path / "node")]) == 2
    assert "ticket" in capsys.readouterr().err


def test_a_ticket_is_taken_with_blanks_around_it_and_from_a_file(tmp_path: Path) -> None:
    long = "  p2pcap:" + "a" * 600
    assert ticket_text(long).strip() == long.strip()
    file = tmp_path / "ticket.txt"
    file.write_text(long)
    assert ticket_text(str(file)) == long


def test_a_file_that_cannot_be_read_is_no_ticket() -> None:
    with pytest.raises(TicketError, match=r"/proc/self/mem cannot be read: .*\. Check"):
        ticket_text("/proc/self/mem")


class Raises(click.Command):
    """A command that ends in an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("raises", callback=self._raise)
        self._error = error

    def _raise(self) -> None:
        raise self._error


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Any:
    def end(error: BaseException) -> int:
        monkeypatch.setattr(main.Commands, "get_command", lambda *_: Raises(error))
        return run(["raises"])

    monkeypatch.delenv("P2PCAP_DEBUG", raising=False)
    return end


def test_our_errors_are_one_message_on_standard_error(ending: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in every_error():
        error = ImageError("empty", "no bytes") if issubclass(kind, ImageError) else kind("It broke. Mend it.")
        assert ending(error) == exits.exit_code(error)
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"{error}\n")


def test_a_strangers_text_in_an_error_cannot_steer_the_terminal(
    ending: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ending(ConfigError("bad \x1b[31mname\x9b2J \u202eevil\nsecond line\r\x07"))
    assert capsys.readouterr().err == "bad [31mname2J evil\nsecond line \n"


def test_a_traceback_only_when_asked(
    ending: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ending(ValueError("inner")) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "--debug" in err
    for value in ("1", "true"):
        monkeypatch.setenv("P2PCAP_DEBUG", value)
        assert ending(ConfigError("It broke.")) == 2
        assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("P2PCAP_DEBUG", "0")
    ending(ConfigError("It broke."))
    assert "Traceback" not in capsys.readouterr().err


def test_interrupts_are_130(ending: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(KeyboardInterrupt()) == 130
    assert ending(click.Abort()) == 130
    assert capsys.readouterr().err.split() == ["interrupted", "interrupted"]


def test_the_debug_option_shows_where() -> None:
    told = p2pcap("--debug", "query", "SELECT 1", "--node", "/nowhere/at/all")
    assert told.returncode == 4
    assert "Traceback" in told.stderr


def test_clean_leaves_one_printable_line() -> None:
    assert output.clean("a\x1b[2J\nb\tc\r\x00\x7f\x9b\u202e d é 象 😀") == "a[2J b c  d é 象 😀"


def test_tables_are_padded_by_what_is_seen() -> None:
    lines = output.table(("name", "n"), [("象", 5), ("é", 10), ("e\u0301", None), ("x" * 100, 1)])
    assert lines[0].startswith("name")
    assert lines[1].startswith("象" + " " * (output.CELL - 2))
    assert lines[4].startswith("x" * (output.CELL - 1) + "…")
    assert output.table(("name",), []) == []


def test_paths_say_where_everything_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "projects" / "0123456789abcdef"
    node.mkdir(parents=True)
    told = p2pcap("paths", "--json", P2PCAP_HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    places = json.loads(told.stdout)
    assert places["home"] == str(tmp_path)
    assert places["nodes"][str(node)]["database"] == str(node / "ledger.duckdb")
    plain = p2pcap("paths", P2PCAP_HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    assert str(node / "node.key") in plain.stdout
