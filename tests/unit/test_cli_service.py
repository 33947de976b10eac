"""`p2pcap service`: the unit as systemd reads it, and what systemd is asked to do."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from p2pcap.cli.main import run
from p2pcap.cli.unit import unit
from p2pcap.errors import ConfigError
from p2pcap.project.ticket import Ticket
from tests.swarm.twin import ROOT

Capture = pytest.CaptureFixture[str]

SYSTEMCTL = """#!/bin/sh
echo "$0 $@" >> "$CALLS"
case "$*" in *" show "*) cat "$STATE";; esac
"""
"""Stands for systemd's own program, which needs a session of systemd: notes what it is asked."""

ACTIVE = """LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
MainPID=4711
ExecMainStatus=0
FragmentPath=/home/ada/.config/systemd/user/p2pcap.service
"""
GONE = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\nMainPID=0\nExecMainStatus=0\n"
FAILED = (
    ACTIVE.replace("=active", "=failed").replace("=running", "=failed").replace("4711", "0").replace("us=0", "us=6")
)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has joined a project, and a systemd that notes what it is asked."""
    node = tmp_path / "home" / "projects" / "0123456789abcdef"
    node.mkdir(parents=True)
    (node / "ticket").write_text(str(Ticket("Shapes", ROOT, None, ())))
    (node / "consent").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(SYSTEMCTL)
        (programs / name).chmod(0o755)
    (tmp_path / "state").write_text(ACTIVE)
    run_directory = tmp_path / "run"
    run_directory.mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": tmp_path,
        "P2PCAP_HOME": tmp_path / "home",
        "XDG_CONFIG_HOME": tmp_path / "config",
        "XDG_RUNTIME_DIR": run_directory,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CALLS": tmp_path / "calls",
        "STATE": tmp_path / "state",
        "HF_TOKEN": "hf_secret",
    }.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


def calls(user: Path) -> list[str]:
    """What systemctl was asked."""
    lines = (user / "calls").read_text().splitlines() if (user / "calls").exists() else []
    return [line.partition("systemctl --user ")[2] for line in lines if "systemctl" in line]


def place(user: Path) -> Path:
    return user / "config" / "systemd" / "user" / "p2pcap.service"


def keys(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_installing_writes_the_unit_and_has_systemd_run_it(user: Path, capsys: Capture) -> None:
    assert run(["service", "install"]) == 0
    said = capsys.readouterr().err
    assert "loginctl enable-linger" in said
    assert calls(user) == ["show-environment", "daemon-reload", "enable p2pcap.service", "restart p2pcap.service"]
    text = place(user).read_text()
    found = keys(text)
    assert '"-P" "-m" "p2pcap" "join" "--no-tui"' in found["ExecStart"]
    assert (found["KillSignal"], found["KillMode"], found["Restart"]) == ("SIGINT", "mixed", "on-failure")
    assert f'Environment="P2PCAP_HOME={user / "home"}"' in text
    assert "hf_secret" not in text


def test_what_nobody_agreed_to_is_not_installed(user: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (user / "home" / "projects" / "0123456789abcdef" / "consent").unlink()
    monkeypatch.setenv("P2PCAP_YES", "1")
    assert run(["service", "install", "--print"]) == 2
    assert "Nobody has agreed yet" in capsys.readouterr().err
    for word in ("--observe", "--yes"):
        assert run(["service", "install", "--print", "--", word]) == 0
        assert f'"--no-tui" "{word}"' in capsys.readouterr().out


def test_paths_in_the_unit_are_whole(user: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCAP_HOME", "home")
    monkeypatch.setenv("HF_HOME", "hub")
    (user / "img").mkdir()
    words = ["--model", "mod", "--local-images=img", "--project", "it.p2pcap", "--name", "mod"]
    assert run(["service", "install", "--print", "--", *words]) == 0
    text = capsys.readouterr().out
    assert f'"--model" "{user}/mod" "--local-images={user}/img" "--project" "{user}/it.p2pcap" "--name" "mod"' in text
    assert f'Environment="P2PCAP_HOME={user}/home"\nEnvironment="HF_HOME={user}/hub"' in text


def test_installing_again_replaces_it_and_uninstalling_removes_it(user: Path, capsys: Capture) -> None:
    assert run(["service", "install", "--no-start"]) == 0
    assert run(["service", "install", "--no-start", "--", "--gpus", "0,2"]) == 0
    assert '"--gpus" "0,2"' in place(user).read_text()
    assert not any("restart" in call for call in calls(user))
    assert run(["service", "uninstall"]) == 0
    assert calls(user)[-2:] == ["disable --now p2pcap.service", "daemon-reload"]
    assert not place(user).exists()
    assert (user / "home" / "projects" / "0123456789abcdef" / "ticket").exists()
    capsys.readouterr()
    assert run(["service", "uninstall"]) == 4
    assert "There is no" in capsys.readouterr().err


def test_the_unit_can_be_printed_without_systemd(user: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(["service", "install", "--print"]) == 0
    assert "ExecStart=" in capsys.readouterr().out
    assert not place(user).exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--", "--nope"], 2, "--nope"),
        (["--", "--batch", "many"], 2, "many"),
        (["--", "p2pcap:abc"], 2, "no ticket"),
        (["--name", "../evil"], 2, "no unit's name"),
        (["--name", ""], 2, "no unit's name"),
        (["--node", "nowhere"], 2, "No project was joined"),
    ],
)
def test_what_would_not_start_is_not_installed(
    user: Path, capsys: Capture, words: list[str], code: int, says: str
) -> None:
    assert run(["service", "install", *words]) == code
    assert says in capsys.readouterr().err
    assert not place(user).exists()


@pytest.mark.parametrize("command", ["install", "status"])
def test_without_systemd_it_is_said_what_to_do(
    user: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (user / "bin" / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2; exit 1\n")
    assert run(["service", command]) == 1
    assert "has no systemd for this user (Failed to connect" in capsys.readouterr().err
    assert not place(user).exists()
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(["service", command]) == 1
    assert "p2pcap join" in capsys.readouterr().err


def test_what_systemd_refuses_is_said_in_its_words(user: Path, capsys: Capture) -> None:
    (user / "bin" / "systemctl").write_text('#!/bin/sh\necho "Unit is \033[31mmasked." >&2; exit 1\n')
    assert run(["service", "status"]) == 1
    assert "systemctl says: Unit is [31mmasked." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "code", "word", "says"),
    [
        (ACTIVE, 0, "active", "process 4711"),
        (GONE, 4, "inactive", "not installed"),
        (FAILED, 4, "failed", "failed (failed)"),
        ("", 4, "unknown", "not installed"),
    ],
)
def test_status_in_each_form(user: Path, capsys: Capture, state: str, code: int, word: str, says: str) -> None:
    (user / "state").write_text(state)
    assert run(["service", "status"]) == code
    out, err = capsys.readouterr()
    assert says in out
    assert ("exit code 6" in err) == (word == "failed")
    assert run(["service", "status", "-q"]) == code
    assert capsys.readouterr() == (f"{word}\n", "")
    assert run(["service", "status", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["state"] == word


# the unit itself

ODD: Mapping[str, str] = {"P2PCAP_HOME": '/a b/100%/"$HOME"\\n', "HF_TOKEN": "x", "HF_HOME": ""}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")
def test_systemd_takes_the_unit_and_reads_the_words_as_they_are(tmp_path: Path) -> None:
    folder = '/a b/100%/"$HOME"\\n;é'
    text = unit("p2pcap-odd", ["/bin/echo", "--node", folder, "${X}", ""], ODD, folder)
    path = tmp_path / "p2pcap-odd.service"
    path.write_text(text)
    (tmp_path / "run").mkdir(mode=0o700)
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    command = ["systemd-analyze", "--user", "verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    path.write_text(text.replace("Nice=10", "Nice=ten"))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "ten" in done.stderr, "what is wrong would be seen"
    assert r'Environment="P2PCAP_HOME=/a b/100%%/\"$HOME\"\\n"' in text
    assert r'"/a b/100%%/\"$$HOME\"\\n;é" "$${X}" ""' in text


@pytest.mark.parametrize("word", ["a\nb", "a\x1bb", "\u202e", "\udcff"])
def test_a_word_that_no_unit_can_hold_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="cannot stand in a unit"):
        unit("p2pcap", ["p2pcap", word], {}, "x")
