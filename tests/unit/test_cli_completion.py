"""`p2pcap completion`: the scripts, and a real bash that completes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2pcap.cli.completion import INSTALLED
from p2pcap.cli.main import run

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("shell", list(INSTALLED))
def test_each_shell_has_its_script_and_is_told_where_to_put_it(shell: str, capsys: Capture) -> None:
    assert run(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert "_P2PCAP_COMPLETE" in out
    assert INSTALLED[shell] in err


def test_another_shell_is_misuse(capsys: Capture) -> None:
    assert run(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program under its name, for a shell to find."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "p2pcap"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m p2pcap "$@"\n')
    script.chmod(0o755)
    return folder


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers where the last word is being typed."""
    typed = " ".join(f"'{word}'" for word in words)
    code = (
        f"PATH={folder}:$PATH; source <(p2pcap completion bash 2>/dev/null); COMP_WORDS=({typed}); "
        f"COMP_CWORD={len(words) - 1}; compopt() {{ :; }}; _p2pcap_completion p2pcap; "
        "printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p p2pcap >&2"
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert "-F _p2pcap_completion" in done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="this machine has no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["p2pcap", "sta"], {"status"}),
        (["p2pcap", "b"], {"ban", "bench", "bootstrap"}),
        (["p2pcap", "bootstrap", ""], {"serve"}),
        (["p2pcap", "join", "--store"], {"--store", "--store-cap"}),
        (["p2pcap", "join", "--store", "s"], {"share"}),
        (["p2pcap", "--de"], {"--debug"}),
        (["p2pcap", "nothing-like-it"], set()),
    ],
)
def test_a_real_bash_completes(program: Path, words: list[str], offered: set[str]) -> None:
    assert set(completed(program, *words)) == offered


def test_a_list_of_commands_loads_none_of_them(program: Path) -> None:
    code = (
        "import os, sys\n"
        "os.environ |= {'_P2PCAP_COMPLETE': 'bash_complete', 'COMP_WORDS': 'p2pcap s', 'COMP_CWORD': '1'}\n"
        "from p2pcap.cli.main import run\ntry:\n    run([])\nexcept SystemExit:\n    pass\n"
        "print(*[name for name in sys.modules if name in ('p2pcap.cli.status', 'p2pcap.cli.seed', 'msgspec')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "plain,status" in told
    assert told[-1] == ""
