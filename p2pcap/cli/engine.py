"""The switches that say what of this machine captions, the same for `join` and `bench`. Keys are never among them."""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from p2pcap.cli.finite import FiniteRange
from p2pcap.errors import ConfigError, EngineStartError

if TYPE_CHECKING:
    from p2pcap.node.options import EngineOptions
    from p2pcap.project.task import EngineKind

MOST_ENGINES = 64

Command = TypeVar("Command", bound=Callable[..., object])


class EngineChoice(TypedDict):
    """The values of the switches, as click hands them over."""

    gpus: str | None
    gpu_memory: float
    gpu_temperature: int | None
    gpu_power: int | None
    nice: int
    engines: int | None
    batch: int
    trust_remote_code: tuple[str, ...]
    engine: "EngineKind"
    urls: tuple[str, ...]
    served_model: str


def engine_options(command: Command) -> Command:
    """Add the switches."""
    switches = [
        click.option("--gpus", metavar="0,2", help="The GPUs to use, as nvidia-smi numbers them. [default: all]"),
        click.option(
            "--gpu-memory",
            default=0.9,
            show_default=True,
            type=FiniteRange(0.05, 0.99),
            help="Share of each GPU's memory.",
        ),
        click.option(
            "--gpu-temperature",
            metavar="CELSIUS",
            type=click.IntRange(30, 110),
            help="A GPU this warm takes no new images until it has cooled down. [default: the GPU's own limit]",
        ),
        click.option(
            "--gpu-power",
            metavar="WATTS",
            type=click.IntRange(20, 2_000),
            help="What each GPU draws at most, averaged over half a minute: it rests in between. [default: no limit]",
        ),
        click.option(
            "--nice",
            default=10,
            show_default=True,
            type=click.IntRange(0, 19),
            help="How far the engine stands back for other programs that want the CPU.",
        ),
        click.option(
            "--engines",
            metavar="N",
            type=click.IntRange(1, MOST_ENGINES),
            help="Engines that share the CPU, where there is no GPU. [default: 1]",
        ),
        click.option(
            "--batch",
            default=64,
            show_default=True,
            type=click.IntRange(1, 4096),
            help="Answers generated at once, by each engine.",
        ),
        click.option(
            "--trust-remote-code",
            multiple=True,
            metavar="MODEL",
            help="Run the Python code that this model brings. Only for a model that you trust, by its full name.",
        ),
        click.option(
            "--engine",
            default="vllm",
            show_default=True,
            type=click.Choice(["vllm", "openai"]),
            help="An own vLLM, or servers with OpenAI's interface, named by --url.",
        ),
        click.option(
            "--url", "urls", multiple=True, metavar="URL", help="Such a server, for example http://127.0.0.1:8000/v1."
        ),
        click.option(
            "--served-model", default="", metavar="NAME", help="The model's name there. [default: the project's]"
        ),
    ]
    for switch in reversed(switches):
        command = switch(command)
    return command


def engine_settings(choice: EngineChoice) -> "EngineOptions":
    """What the volunteer lends, from these switches. Raises ConfigError when they contradict each other."""
    from p2pcap.engine.base import EngineSettings
    from p2pcap.node.options import EngineOptions

    _check_servers(choice)
    settings = EngineSettings(
        max_num_seqs=choice["batch"],
        gpus=_numbers(choice["gpus"]),
        gpu_memory=choice["gpu_memory"],
        nice=choice["nice"],
        endpoints=choice["urls"],
        served_model=choice["served_model"],
    )
    if settings.gpus and choice["engines"]:
        raise ConfigError(
            "--engines is for CPUs, and --gpus names GPUs: one engine runs on each. Leave one of them out."
        )
    return EngineOptions(
        settings=settings,
        kind=choice["engine"],
        cpu_engines=choice["engines"] or 1,
        gpu_temperature=choice["gpu_temperature"],
        gpu_power=choice["gpu_power"],
        remote_code=choice["trust_remote_code"],
    )


def _numbers(text: str | None) -> tuple[int, ...]:
    """The numbers of "0,2", in order."""
    if text is None:
        return ()
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text):
        raise ConfigError(f"--gpus {text!r} is no list of numbers. Write them as nvidia-smi does, for example 0,2")
    numbers = [int(number) for number in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"--gpus {text} names a GPU twice. Name each once.")
    return tuple(sorted(numbers))


def _check_servers(choice: EngineChoice) -> None:
    """Servers are named when they are asked, only then, and as addresses that can be asked."""
    if choice["engine"] == "vllm":
        if choice["urls"] or choice["served_model"]:
            raise ConfigError("--url and --served-model are for servers. Add --engine openai, or leave them out.")
        return
    if not choice["urls"]:
        raise ConfigError(
            "--engine openai needs a server to ask. Name it with --url, for example http://127.0.0.1:8000/v1"
        )
    mine = {
        "--gpus": choice["gpus"],
        "--gpu-temperature": choice["gpu_temperature"],
        "--gpu-power": choice["gpu_power"],
        "--engines": choice["engines"],
    }
    if given := [name for name, value in mine.items() if value is not None]:
        raise ConfigError(
            f"{given[0]} is about this machine's own vLLM, and --engine openai starts none. Leave it out."
        )

    from p2pcap.engine.endpoints import keys, parse

    parse(choice["urls"], keys(os.environ))


def require_engine(options: "EngineOptions") -> None:
    """Raises EngineStartError when an own vLLM is to run and none is installed, before anything is joined."""
    from importlib.util import find_spec

    if options.kind == "vllm" and find_spec("vllm") is None:
        raise EngineStartError(
            "vLLM is not installed, so this machine cannot caption. Install p2pcap[gpu] (or p2pcap[cpu]), name a "
            "server with --engine openai --url, or join with --observe."
        )
