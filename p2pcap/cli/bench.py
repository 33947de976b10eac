"""`p2pcap bench`: how fast this machine is at a project's own task, and what limits it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from p2pcap.cli.amounts import duration
from p2pcap.cli.engine import EngineChoice, engine_options, engine_settings, require_engine
from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.join import check_folder, check_model_option, find_ticket
from p2pcap.cli.output import result, result_json, say

if TYPE_CHECKING:
    from p2pcap.node.bench import Bench
    from p2pcap.node.bottleneck import Measured


@click.command(
    epilog="""\b
Examples:
  p2pcap bench                          with the one project joined before
  p2pcap bench p2pcap:abc… --seconds 30
  p2pcap bench --images ~/photos --json"""
)
@click.argument("ticket", required=False)
@click.option("--node", type=click.Path(path_type=Path), help="Folder of the node; it must not run.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Your own pictures. [default: the project's that are here, or some fetched from peers]",
)
@click.option("--seconds", default=60.0, show_default=True, type=FiniteRange(1, 3600), help="Time measured.")
@click.option("--model", type=click.Path(path_type=Path), help="Directory with your own copy of the project's model.")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="Another address to find the swarm at.")
@engine_options
@forms("As one JSON object.", "Only images a second.")
def bench(
    ticket: str | None,
    node: Path | None,
    images: Path | None,
    seconds: float,
    model: Path | None,
    peers: tuple[str, ...],
    form: Form,
    **choice: Unpack[EngineChoice],
) -> None:
    """Measure this machine on the task of the project that TICKET names, without taking part in it.

    Nothing is claimed and nothing published. What a new node would fetch first (the project, its model, some images) is
    fetched and kept in its folder, unless it is there; the measure itself is made offline.
    """
    paths, opened = find_ticket(ticket, node)
    engine = engine_settings(choice)
    require_engine(engine)
    from p2pcap.node.bench import BenchOptions, run_bench

    options = BenchOptions(
        paths=paths,
        ticket=opened,
        engine=engine,
        seconds=seconds,
        images=check_folder(images),
        model=check_model_option(model),
        peers=peers,
    )
    found = run_bench(options, say)
    if form == "json":
        result_json(plain(found))
    elif form == "quiet":
        result(f"{found.measured.images_per_second:.3g}")
    else:
        for line in lines(found):
            result(line)


def lines(found: "Bench") -> Iterator[str]:
    """What was found, for people."""
    from p2pcap.node.bottleneck import disturbed, limit

    measured, means = found.measured, found.measured.means
    yield f"{found.project.title} on {measured.device}: {measured.seconds:.0f} s, {found.pictures} pictures"
    yield f"  images/s       {measured.images_per_second:.3g}"
    yield f"  tokens/s       {measured.tokens_per_second:.3g}{_per_image(measured)}"
    yield f"  time an image  {measured.latency:.3g} s in the engine: {_parts(measured.waits(), 's')}"
    yield f"  CPU an image   {_parts(_cpu(measured), 'ms')}"
    if means.told:
        yield f"  batch          {means.running:.1f} of {means.batch} answers, {_percent(means.running, means.batch)}"
        yield f"  memory         {100 * means.kv:.0f} % of that for keys and values in use"
    yield f"  limited by     {limit(measured)}"
    yield f"  whole project  {_whole(found)}"
    if disturbed(measured):
        others = measured.others / measured.seconds
        yield f"  other programs kept {others:.1f} of {measured.cores} cores busy: alone this machine does more"
    if measured.failed:
        yield f"  failed         {', '.join(f'{count} {code}' for code, count in measured.failed.items())}"
    if measured.deaths:
        yield f"  the engine died with {measured.deaths} images in hand; its log says why"


def plain(found: "Bench") -> dict[str, Any]:
    """The same, for machines. Times are in seconds, or milliseconds where the name says so."""
    from p2pcap.node.bottleneck import limit

    measured, means = found.measured, found.measured.means
    return {
        "project": found.project.title,
        "model": found.project.stages[0].task.model.name,
        "device": measured.device,
        "pictures": found.pictures,
        "seconds": measured.seconds,
        "images": measured.images,
        "images_per_second": measured.images_per_second,
        "tokens_per_second": measured.tokens_per_second,
        "image_seconds": {"all": measured.latency, **measured.waits()},
        "cpu_ms_per_image": _cpu(measured),
        "batch": {"running": means.running, "waiting": means.waiting, "places": means.batch},
        "kv": means.kv,
        "in_flight": means.in_flight,
        "cores": measured.cores,
        "cores_of_others": measured.others / measured.seconds,
        "limited_by": limit(measured),
        "failed": dict(measured.failed),
        "deaths": measured.deaths,
        "project_images": found.project.images,
        "project_seconds": found.project.images / measured.images_per_second if measured.images else None,
    }


def _cpu(measured: "Measured") -> dict[str, float]:
    return {part: measured.cpu_ms(part) for part in measured.cpu}


def _per_image(measured: "Measured") -> str:
    return f", {measured.tokens / measured.images:.1f} an image" if measured.images else ""


def _parts(parts: dict[str, float], unit: str) -> str:
    return ", ".join(f"{name} {value:.3g} {unit}" for name, value in parts.items())


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def _whole(found: "Bench") -> str:
    """How long this machine alone would take."""
    if not found.measured.images:
        return f"{found.project.images} images; none was captioned in this time, so measure longer with --seconds"
    seconds = found.project.images / found.measured.images_per_second
    return f"{found.project.images} images in {duration(seconds)} on this machine alone"
