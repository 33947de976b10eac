"""Every command gives its results in the same forms, or says here why not."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from p2pcap.cli.live import Live
from p2pcap.cli.main import program, run
from p2pcap.cli.output import be_quiet, say, warn
from p2pcap.cli.reference import commands
from tests.unit.control_node import SNAPSHOT, runtime
from tests.unit.test_first_minutes import options

__all__ = ["runtime"]

Capture = pytest.CaptureFixture[str]

ACTS = "acts, and gives no results"
RUNS = "runs until it is stopped"
ASKS = "shows what it would do, and asks"
TEXT = "its result has a form of its own"

JSON: dict[str, str] = {
    "ban": ASKS,
    "bench": "json",
    "bootstrap serve": RUNS,
    "completion": TEXT,
    "contributors": "json",
    "doctor": "json",
    "export all": "json",
    "export attribution": ACTS,
    "export csv": "json",
    "export hub": "json",
    "export imagefolder": "json",
    "export json": "json",
    "export jsonl": "json",
    "export kohya": "json",
    "export lance": "json",
    "export parquet": "json",
    "export txt": "json",
    "export webdataset": "json",
    "export webshart": "json",
    "failures": "json",
    "finish": ACTS,
    "fsck": "json",
    "grant": ASKS,
    "import": ACTS,
    "index": ACTS,
    "inspect": "json",
    "invite": "json",
    "join": RUNS,
    "key export": ACTS,
    "key import": ACTS,
    "key new": "json",
    "key passphrase": ACTS,
    "key rotate": ACTS,
    "key show": "json",
    "key sign-root": ASKS,
    "log": "json",
    "metrics": TEXT,
    "paths": "json",
    "pause": ACTS,
    "peers": "json",
    "project calibrate": "json",
    "project check": ACTS,
    "project diff": "json",
    "project init": ACTS,
    "project pause": ACTS,
    "project publish": ACTS,
    "project pull": ACTS,
    "project resume": ACTS,
    "project show": "json",
    "project sign": ACTS,
    "proof": ACTS,
    "query": "json",
    "redact": ASKS,
    "resume": ACTS,
    "revoke": ASKS,
    "seed": RUNS,
    "service install": ACTS,
    "service status": "json",
    "service uninstall": ACTS,
    "snapshot": ACTS,
    "status": "json",
    "stop": ACTS,
    "table-hash": "json",
    "ticket": "json",
    "ticket show": "json",
    "tui": RUNS,
    "verify": "json",
    "void": ASKS,
}
"""Each command, and whether it has --json, or why it has none. --quiet every command has."""


def every_command() -> Iterator[tuple[str, click.Command]]:
    root = program.make_context("p2pcap", [], resilient_parsing=True)
    for command, context in commands(program, root):
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield context.command_path.removeprefix("p2pcap "), command


def test_every_command_has_decided_whether_it_has_json() -> None:
    found = {name: any("--json" in option.opts for option in command.params) for name, command in every_command()}
    assert found == {name: why == "json" for name, why in JSON.items()}


def test_every_command_can_be_quiet() -> None:
    for name, command in every_command():
        (option,) = (option for option in command.params if "--quiet" in option.opts)
        assert "-q" in option.opts, name
        assert isinstance(option, click.Option)
        assert option.is_flag


def test_two_forms_at_once_are_misuse(capsys: Capture) -> None:
    for name, why in JSON.items():
        words = {"query": ["SELECT 1"], "export csv": ["x"], "ticket show": ["x"]}.get(name)
        if why == "json" and words is not None:
            assert run([*name.split(), *words, "--json", "-q"]) == 2
            assert "two forms" in capsys.readouterr().err


def test_quiet_leaves_out_what_goes_on_and_keeps_warnings(capsys: Capture) -> None:
    @click.command()
    def speaks() -> None:
        say("goes on")
        warn("matters")

    from p2pcap.cli.forms import add_quiet

    add_quiet(speaks)
    speaks.main([], standalone_mode=False)
    assert capsys.readouterr().err == "goes on\nmatters\n"
    speaks.main(["-q"], standalone_mode=False)
    assert capsys.readouterr().err == "matters\n"
    speaks.main([], standalone_mode=False)
    assert capsys.readouterr().err == "goes on\nmatters\n", "quiet ends with the command that was told to be"


@pytest.mark.usefixtures("runtime")
def test_errors_are_said_with_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path))
    assert run(["peers", "-q"]) == 4
    assert "p2pcap join" in capsys.readouterr().err


def test_the_file_in_use_is_not_said_with_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    file = tmp_path / "tui.yaml"
    file.write_text("node: nowhere\n")
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path))
    for words in ([], ["-q"]):
        assert run(["status", "--config", str(file), *words]) == 4
        assert ("configuration:" in capsys.readouterr().err) == (not words)
    file.write_text("node: nowhere\nquiet: true\n")
    assert run(["status", "--config", str(file)]) == 4
    assert "configuration:" not in capsys.readouterr().err


def test_json_of_paths_names_what_is_not_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    odd = f"{tmp_path}/\udcff\x7f\x9b2J"
    monkeypatch.setenv("P2PCAP_HOME", odd)
    assert run(["paths", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["home"] == odd
    assert out.isascii()
    assert out[:-1].isprintable()


def test_a_node_in_the_foreground_can_be_quiet(capsys: Capture) -> None:
    for quiet in (False, True):
        with click.Context(program) as context:
            if quiet:
                be_quiet(context)
            shown = Live(options("coordinator"))
            shown.say("listening")
            shown.progress(SNAPSHOT)
        assert bool(capsys.readouterr().err) == (not quiet)
