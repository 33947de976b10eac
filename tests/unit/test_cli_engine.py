"""The switches of engines: what they become, and what is refused before anything starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Unpack

import click
import pytest
from click.testing import CliRunner

from p2pcap.cli.engine import EngineChoice, engine_options, engine_settings, require_engine
from p2pcap.cli.main import run
from p2pcap.engine.base import EngineSettings
from p2pcap.errors import ConfigError, EngineStartError
from p2pcap.node.options import EngineOptions

SERVER = "http://127.0.0.1:8000/v1"


def chosen(*arguments: str) -> EngineOptions:
    """What `join` with these arguments would take."""
    found: list[EngineOptions] = []

    @click.command()
    @engine_options
    def command(**choice: Unpack[EngineChoice]) -> None:
        found.append(engine_settings(choice))

    result = CliRunner().invoke(command, arguments)
    if result.exception is not None:
        raise result.exception
    return found[0]


def test_without_switches_everything_is_left_to_the_machine() -> None:
    assert chosen() == EngineOptions(EngineSettings(nice=10))


def test_each_switch_becomes_a_setting() -> None:
    text = (
        "--gpus 2,0 --gpu-memory 0.5 --gpu-temperature 80 --gpu-power 250 --nice 3 --batch 16 --trust-remote-code a/b"
    )
    found = chosen(*text.split())
    assert found == EngineOptions(
        EngineSettings(gpus=(0, 2), gpu_memory=0.5, max_num_seqs=16, nice=3),
        gpu_temperature=80,
        gpu_power=250,
        remote_code=("a/b",),
    )
    assert chosen("--engines", "3").cpu_engines == 3


def test_servers_are_named_with_their_addresses() -> None:
    found = chosen("--engine", "openai", "--url", SERVER, "--url", "http://localhost:9/v1", "--served-model", "m")
    assert found.kind == "openai"
    assert found.settings == EngineSettings(endpoints=(SERVER, "http://localhost:9/v1"), served_model="m", nice=10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--gpus 0;1", "is no list of numbers"),
        ("--gpus -1", "is no list of numbers"),
        ("--gpus \u0663", "is no list of numbers"),
        ("--gpus 1,1", "names a GPU twice"),
        ("--gpus 0 --engines 2", "--engines is for CPUs"),
        (f"--url {SERVER}", "Add --engine openai"),
        ("--served-model m", "Add --engine openai"),
        ("--engine openai", "Name it with --url"),
        (f"--engine openai --url {SERVER} --gpus 0", "--gpus is about this machine's own vLLM"),
        (f"--engine openai --url {SERVER} --gpu-temperature 80", "--gpu-temperature is about"),
        (f"--engine openai --url {SERVER} --gpu-power 80", "--gpu-power is about"),
        (f"--engine openai --url {SERVER} --engines 2", "--engines is about"),
        ("--engine openai --url ftp://x/v1", "no http or https address"),
        ("--engine openai --url http://user:secret@127.0.0.1/v1", "P2PCAP_OPENAI_KEY"),
    ],
)
def test_contradictions_are_refused_at_once(arguments: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        chosen(*arguments.split())
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    ["--gpu-memory 1.5", "--gpu-memory nan", "--gpu-temperature 5", "--engines 0", "--batch 0", "--engine tgi"],
)
def test_values_out_of_range_are_misuse(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["join", "p2pcap:abc", *arguments.split()]) == 2
    assert arguments.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize("switches", ["--engine openai", "--engine openai --served-model m", "--gpu-temperature 80"])
def test_an_observer_needs_no_engine_and_no_server(
    switches: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["join", "no-ticket", "--observe", "--node", str(tmp_path), *switches.split()]) == 2
    assert "This is no ticket" in capsys.readouterr().err


def test_no_switch_takes_a_key() -> None:
    text = CliRunner().invoke(engine_options(click.command()(lambda **choice: None)), ["--help"]).output
    assert "key" not in text.lower()


def test_vllm_is_asked_for_only_where_an_own_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_engine(EngineOptions(kind="openai"))
    with pytest.raises(EngineStartError, match="--engine openai"):
        require_engine(EngineOptions())


def test_the_switches_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from p2pcap.cli.main import run; run(['join', 'nonsense']); "
        "print({'torch', 'vllm', 'pynvml', 'trio', 'libp2p', 'huggingface_hub'} & set(sys.modules))"
    )
    environment = {**os.environ, "P2PCAP_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"
