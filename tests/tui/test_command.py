"""`p2pcap tui` as it is typed: where there is no terminal, no node, no such theme, and where the UI has a defect."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from p2pcap.cli import tui as command
from p2pcap.cli.main import run
from p2pcap.errors import ConfigError, NotRunningError
from p2pcap.paths import running_node
from p2pcap.project.ticket import Ticket
from p2pcap_tui.app import TerminalUI
from tests.swarm.twin import ROOT
from tests.unit.control_node import runtime

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Standard input and output seem to be a terminal."""
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path))
    monkeypatch.setattr(command, "_at_terminal", lambda: True)


def test_without_a_terminal_it_says_what_to_use_instead(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_at_terminal", lambda: False)
    assert run(["tui"]) == 2
    said = "There is no terminal to draw on. Without one: p2pcap status --follow, p2pcap status --json"
    assert capsys.readouterr().err.strip().endswith(said)


@pytest.mark.usefixtures("at_terminal")
def test_without_any_node_it_says_how_to_start_one(capsys: Capture) -> None:
    assert run(["tui"]) == 4
    assert "No node is running" in capsys.readouterr().err


@pytest.mark.usefixtures("at_terminal")
def test_a_bad_ticket_is_refused_before_anything_is_drawn(capsys: Capture) -> None:
    assert run(["tui", "p2pcap:nonsense"]) == 2
    assert "ticket" in capsys.readouterr().err


def test_an_unknown_theme_is_refused_with_the_names_of_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("There is no theme pink. Choose one of: ansi-dark, ")):
        command.show(tmp_path, "pink")


def test_a_defect_of_the_ui_is_raised_to_whoever_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: TerminalUI) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(TerminalUI, "on_mount", broken)
    real = TerminalUI.run
    monkeypatch.setattr(TerminalUI, "run", lambda self: real(self, headless=True))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        command.show(tmp_path)


def test_an_observer_that_ends_is_told_with_what_it_said_last(tmp_path: Path) -> None:
    def until_it_ends(check: Callable[[], None]) -> None:
        while True:
            check()

    observer = command._observer(tmp_path / "node", "p2pcap:nonsense")
    with observer as check, pytest.raises(NotRunningError, match="ticket"):
        until_it_ends(check)


def test_an_observer_obeys_no_settings_of_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_it_runs(check: Callable[[], None]) -> None:
        while running_node(tmp_path / "node") is None:
            check()

    monkeypatch.chdir(tmp_path)
    (tmp_path / "node.yaml").write_text("until-done: perhaps")
    monkeypatch.setenv("P2PCAP_JOIN_TUI", "1")
    with command._observer(tmp_path / "node", str(Ticket("Shapes", ROOT, None, ()))) as check:
        until_it_runs(check)


UI = """
import signal, sys
from pathlib import Path
from p2pcap.cli.tui import _observer
with _observer(Path(sys.argv[1]), sys.stdin.read()):
    print("there", flush=True)
    signal.pause()
"""
"""Stands for the UI on a terminal that goes away."""


def test_an_observer_ends_with_a_killed_ui_and_shows_its_ticket_to_nobody(tmp_path: Path) -> None:
    ticket = str(Ticket("Shapes", ROOT, None, ()))
    words = [sys.executable, "-c", UI, str(tmp_path / "node")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdin is not None
        assert ui.stdout is not None
        ui.stdin.write(ticket)
        ui.stdin.close()
        assert ui.stdout.readline() == "there\n"
        observer = int(Path(f"/proc/{ui.pid}/task/{ui.pid}/children").read_text())
        left, seen = os.pidfd_open(observer), b""
        while not seen and not select.select([left], [], [], 0)[0]:  # the kernel fills it in a moment after the start
            seen = Path(f"/proc/{observer}/cmdline").read_bytes()
        ui.kill()
    try:
        assert b"join" in seen
        assert b"p2pcap:" not in seen
        assert select.select([left], [], [], 60)[0], "it stays"
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(left, signal.SIGKILL)
        os.close(left)
