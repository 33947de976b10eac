"""`p2pcap fsck`: check a stopped node's database against its own statements, and repair it."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from p2pcap.cli.exits import DIFFERS, OK
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_node
from p2pcap.cli.output import progress, result, result_json, say

if TYPE_CHECKING:
    from p2pcap.store.fsck import Report


@click.command(
    epilog="""\b
Examples:
  p2pcap fsck
  p2pcap fsck ~/cats --json
  p2pcap fsck ~/cats --repair"""
)
@click.argument("node", required=False, metavar="[DIR]")
@click.option("--repair", is_flag=True, help="Put the database right; the old file is kept under another name.")
@forms("As one JSON object.", "Only what differs.")
def fsck(node: str | None, repair: bool, form: Form) -> int:
    """Check the database of the node in DIR, which must not run.

    Every signature, hash and checkpoint is verified, and everything that follows from them is made anew and compared.
    Needs room for a second database beside the first.
    """
    from p2pcap.store.fsck import check

    path = find_node(node).paths.database
    report = check(path, _show_progress if sys.stderr.isatty() else _be_silent, repair)
    if form == "json":
        result_json(_plain(report, str(path)))
    else:
        for line in [*report.left_out, *(difference.text() for difference in report.differences)]:
            result(line)
        for note in report.notes:
            say(note)
        say(_summary(report, str(path)))
    return OK if report.is_well or report.kept else DIFFERS


def _summary(report: "Report", path: str) -> str:
    if report.is_well:
        return f"{path} is what its statements say"
    if report.kept:
        return f"{path} is repaired; the old file is {report.kept}"
    return f"{path} differs from what its statements say; p2pcap fsck --repair puts it right and keeps the old file"


def _plain(report: "Report", path: str) -> dict[str, object]:
    return {
        "database": path,
        "well": report.is_well,
        "left_out": report.left_out,
        "differences": [asdict(difference) for difference in report.differences],
        "notes": report.notes,
        "kept": str(report.kept) if report.kept else None,
    }


def _show_progress(what: str, done: int, total: int) -> None:
    progress(f"{what} {done} of {total}" if done < total else "")


def _be_silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""
