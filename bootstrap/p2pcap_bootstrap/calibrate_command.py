"""`p2pcap project calibrate`: where honest captions end and false ones begin, measured for a stage."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from p2pcap.cli.engine import EngineChoice, engine_options, engine_settings, require_engine
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.output import result, result_json, say, table
from p2pcap.errors import ConfigError

if TYPE_CHECKING:
    from p2pcap.audit.calibrating import Calibration, Kind

DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog="""\b
Examples:
  p2pcap project calibrate cats
  p2pcap project calibrate cats --against ./smaller-model --with other-gpu.json
  p2pcap project calibrate cats --export other-gpu.json        on another machine, with a copy of the folder"""
)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--stage", help="Which stage; needed when there are several.")
@click.option(
    "--images", default=1_000, show_default=True, type=click.IntRange(200, 100_000), help="How many of the project's."
)
@click.option("--against", multiple=True, type=DIRECTORY, help="A model that a cheat might use instead; repeatable.")
@click.option("--with", "others", multiple=True, type=FILE, help="Captions that --export wrote elsewhere; repeatable.")
@click.option("--export", type=FILE, help="Write this machine's captions into a file, and nothing else.")
@click.option(
    "--all-classes", is_flag=True, help="Judge engines of all classes by these limits. [default: those measured]"
)
@click.option(
    "--agreement",
    is_flag=True,
    help="Compare texts in place of scoring tokens; always so with --engine openai. Catches much less.",
)
@engine_options
@forms("As one JSON object.", "Nothing but errors: the limits are in audit.yaml.")
def calibrate(
    directory: Path | None,
    stage: str | None,
    images: int,
    against: tuple[Path, ...],
    others: tuple[Path, ...],
    export: Path | None,
    all_classes: bool,
    agreement: bool,
    form: Form,
    **choice: Unpack[EngineChoice],
) -> None:
    """Measure by what limits captions of DIRECTORY's project are told from false ones, and how sure that is.

    Captions some of the images, makes false captions, and lets the model score them all. The limits go into audit.yaml;
    the next `p2pcap project sign` makes them part of the project, and from then on verifiers judge by them.
    """
    from p2pcap_bootstrap.calibrating import Wanted, run
    from p2pcap_bootstrap.project_commands import in_folder
    from p2pcap_bootstrap.workspace import Workspace

    engine = engine_settings(choice)
    require_engine(engine)
    workspace = Workspace(in_folder(directory))
    compares = agreement or engine.kind == "openai"
    if compares and engine.kind == "openai" and against:
        raise ConfigError("--against starts models on this machine, and --engine openai starts none. Leave it out.")
    found = run(workspace, Wanted(stage, images, engine, against, others, export, all_classes, compares), say)
    if found is None:
        say(f"wrote {export}; next, on the maintainer's machine: p2pcap project calibrate --with {export}")
        return
    if form == "json":
        result_json(plain(found))
    elif form == "people":
        for line in lines(found):
            result(line)
    say(f"wrote audit.yaml; next: p2pcap project sign {workspace.directory}")


def lines(found: "Calibration") -> Iterator[str]:
    """What was measured, for people."""
    kinds = [found.honest, *([found.plain] if found.plain else []), *found.cheats]
    measured = ("likeness", "") if found.audit.method == "agreement" else ("mean margin", "greatest margin")
    names = ("", "items", "bad", "at least", "unsure", "ROC area", *measured)
    yield from table(names, (_row(kind, kind in found.cheats) for kind in kinds))
    yield f"{measured[0]}: 5 %, 50 % and 95 % quantiles; at least: with 95 % confidence"
    yield ""
    yield "ROC: share beyond so many times the limits"
    yield from table(("", *(f"{at:g}" for at in _places())), ((kind.name, *_curve(kind)) for kind in kinds))
    yield ""
    yield from _verdict(found)


def plain(found: "Calibration") -> dict[str, Any]:
    """The same, for machines."""
    from p2pcap.audit.bounds import false_bans, upper_bound

    rate = upper_bound(found.honest.bad, found.honest.items)
    kinds = [found.honest, *([found.plain] if found.plain else []), *found.cheats]
    return {
        "bans_at": found.audit.bans_at,
        "false_rate_at_most": rate,
        "false_bans": false_bans(found.audit.bans_at, rate),
        "limits": [
            {"cap": one.cap, "unsure": _bound(one.unsure), "bad": _bound(one.bad), "plain": _bound(one.plain)}
            for one in found.audit.limits or ()
        ],
        "likeness": [{"unsure": one.unsure, "bad": one.bad} for one in found.audit.likeness or ()],
        "kinds": [
            {
                "name": kind.name,
                "items": kind.items,
                "bad": kind.bad,
                "unsure": kind.unsure,
                "bad_at_least": kind.power[1],
                "roc_area": kind.area,
                "mean_margins": kind.means,
                "greatest_margins": kind.worsts,
                "roc": [list(point) for point in kind.roc],
            }
            for kind in kinds
        ],
    }


def _bound(bound: Any) -> dict[str, int]:
    return {"mean": bound.mean, "worst": bound.worst, "likeliest": bound.likeliest}


def _row(kind: "Kind", cheat: bool) -> tuple[object, ...]:
    share, least = kind.power
    return (
        kind.name,
        kind.items,
        f"{100 * share:.1f} %",
        f"{100 * least:.1f} %" if cheat else "",
        kind.unsure,
        f"{kind.area:.4f}",
        _quantiles(kind.means),
        _quantiles(kind.worsts),
    )


def _quantiles(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _places() -> tuple[float, ...]:
    from p2pcap.audit.calibrating import PLACES

    return PLACES


def _curve(kind: "Kind") -> list[str]:
    return [f"{share:.3f}" for _, share in kind.roc]


def _verdict(found: "Calibration") -> Iterator[str]:
    from p2pcap.audit.bounds import false_bans, upper_bound
    from p2pcap.project.audit import CHECKS

    honest, audit = found.audit.honest, found.audit
    rate = upper_bound(honest.bad, honest.items)
    yield (
        f"honest items called bad: {honest.bad} of {honest.items}, so at most {rate:.2g} of all; a ban takes "
        f"{audit.bans_at} bad items in {CHECKS} checks, which an honest author has with a probability of "
        f"{false_bans(audit.bans_at, rate):.1g}"
    )
    for limits in audit.limits or ():
        bad = limits.bad
        yield (
            f"bad: a mean above {bad.mean / 1_000:g} (margins capped at {limits.cap / 1_000:g}), a margin above "
            f"{bad.worst / 1_000:g}, or less than {bad.likeliest / 10:g} % likeliest tokens"
        )
    for alike in audit.likeness or ():
        yield f"bad: less than {alike.bad / 10:g} % like the verifier's own caption"
