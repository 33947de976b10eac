"""`p2pcap failures`: the images that ended without a caption, and what can be done about them."""

import re
from collections.abc import Sequence

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import Target, find_node, node_option
from p2pcap.cli.output import result, say, table, warn
from p2pcap.cli.query import MACHINES, PEOPLE, show_json
from p2pcap.cli.rows import run_query
from p2pcap.cli.values import plain
from p2pcap.project.failures import CODES

SECONDS = 60.0
"""How long the node may take to find them."""

CODE = re.compile(r"[a-z0-9-]{1,32}")
"""What may stand in an error row as its code."""

COUNTED = (
    "SELECT error, count(*), count_if(NOT final) FROM failures {where} GROUP BY error ORDER BY count(*) DESC, error"
)
LISTED = """
SELECT key, url, file, place, chunk, item, error AS code, reason, final, tries, authors, time FROM failures {where}
ORDER BY chunk, item, time
"""
SHOWN = """
SELECT coalesce(key, concat(chunk, '/', item)), error, tries, final, reason FROM failures {where}
ORDER BY chunk, item, time
"""
HEAD = ("image", "code", "authors", "state", "reason")
NEW = "another version of p2pcap gave this code"


def _checked(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """It becomes part of a query."""
    if value is not None and not CODE.fullmatch(value):
        raise click.BadParameter("a code has small letters, digits and hyphens; docs/protocol.md lists them")
    return value


@click.command(
    epilog="""\b
Examples:
  p2pcap failures
  p2pcap failures --reason gone --limit 20
  p2pcap failures --json > failures.json"""
)
@forms("An array of objects, one for each image.", "Only the images' keys, one a line.")
@click.option("--limit", type=click.IntRange(1, 10_000_000), help="At most so many images.")
@click.option("--reason", metavar="CODE", callback=_checked, help="Only those that ended with this code.")
@node_option
def failures(form: Form, limit: int | None, reason: str | None, node: str | None) -> None:
    """List the images that ended as errors, with the reason, and what a maintainer can do about them.

    An error is final once as many volunteers have said it as the project asks for; until then others try. Works while
    the node runs and when it does not.
    """
    target, where = find_node(node), f"WHERE error = '{reason}'" if reason else ""
    rows = limit or (PEOPLE if form == "people" else MACHINES)
    if form == "json":
        with run_query(target, LISTED.format(where=where), rows, SECONDS) as found:
            show_json(found)
    elif form == "quiet":
        with run_query(target, SHOWN.format(where=where), rows, SECONDS) as found:
            for row in plain(found):
                result(str(row[0]))
    elif not (counted := _counted(target, where)):
        say("no image ended as an error" + (f" with the code {reason}" if reason else ""))
        return
    else:
        for line in summary(counted):
            result(line)
        with run_query(target, SHOWN.format(where=where), rows, SECONDS) as found:
            for line in table(HEAD, [_shown(row) for row in plain(found)]):
                result(line)
    if found.truncated:
        warn(f"only the first {rows} are shown; ask for more with --limit")


def _counted(target: Target, where: str) -> list[tuple[str, int, int]]:
    with run_query(target, COUNTED.format(where=where), MACHINES, SECONDS) as found:
        return [(str(code), int(str(images)), int(str(waiting))) for code, images, waiting in plain(found)]


def summary(counted: Sequence[tuple[str, int, int]]) -> list[str]:
    """How many images ended with each code, what the code means, and what to do. `counted`: code, images, and those of
    them whose error is not final."""
    images, waiting = sum(count for _, count, _ in counted), sum(count for _, _, count in counted)
    codes = ", ".join(f"{count} {code}" for code, count, _ in counted)
    tail = f"; {waiting} of them wait for others" if waiting else ""
    return [f"{images} images ended as errors: {codes}{tail}", *map(_explained, counted)]


def _explained(row: tuple[str, int, int]) -> str:
    known = CODES.get(row[0])
    return f"  {row[0]}: {known.meaning}. {known.advice}" if known else f"  {row[0]}: {NEW}."


def _shown(row: Sequence[object]) -> Sequence[object]:
    image, code, tries, final, reason = row
    return (image, code, tries, "final" if final else "waits for others", reason)
