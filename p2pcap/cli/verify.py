"""`p2pcap verify`: whether an export says what was signed, without a node or a network."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.join import ticket_text
from p2pcap.cli.output import result, result_json, say, warn
from p2pcap.errors import ConfigError, UntrustedError
from p2pcap.project.opened import Project

HEX = 64
"""Digits of a project's hash."""

ROW = ("key", "image", "caption", "error", "author", "author_name", "model", "time")
"""What is shown of a single caption."""


@click.command(
    epilog="""\b
Examples:
  p2pcap verify captions.parquet --project ticket.txt
  p2pcap verify captions.parquet --project 3f5a…        the hash that `p2pcap ticket show` prints as root
  p2pcap verify cat.proof --project ticket.txt
  p2pcap verify proven.jsonl"""
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--project", "anchor", metavar="TICKET|HASH", help="The project that FILE has to be of.")
@forms("What was found, as one JSON object.")
def verify(file: Path, anchor: str | None, form: Form) -> None:
    """Check that FILE says what its authors signed: an export as Parquet, JSON Lines with proofs, or the proof of one
    caption. Needs no node and no network.

    Everything in FILE is traced to the project's hash, which a ticket names. Without --project the hash is shown, and
    asked about on a terminal: anybody can make a project of any title, with authors of any name.
    """
    expected = _hash(anchor) if anchor is not None else None
    found = _checked(file, expected)
    if form == "json":
        result_json(found.plain(file, expected))
        return
    if form == "people":
        for name, value in found.row.items():
            result(f"{name:<12}{value}")
        for line in found.told:
            say(line)
    if expected is None and found.project is not None:
        _ask(found.project)


@dataclass(frozen=True)
class Checked:
    """What holds: the file's kind, lines about it for people, and counts for programs. `row`: of a single caption.
    `unchecked`: columns that are the word of whoever exported. `project`: None where the file proves none."""

    kind: str
    told: tuple[str, ...]
    counts: dict[str, int]
    project: Project | None = None
    row: dict[str, object] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()

    def plain(self, file: Path, expected: bytes | None) -> dict[str, object]:
        """The same for programs. `trusted`: the project is the one that was named."""
        project = self.project and {"title": self.project.title, "root": self.project.hash.hex()}
        return {
            "file": str(file),
            "kind": self.kind,
            "project": project,
            "trusted": expected is not None,
            **self.counts,
            "row": {name: str(value) for name, value in self.row.items()} or None,
            "unchecked": list(self.unchecked),
        }


def _checked(file: Path, expected: bytes | None) -> Checked:
    beginning = _beginning(file)
    if beginning.startswith(b"PAR1"):
        return _parquet(file, expected)
    if beginning.startswith(b'{"p2pcap_proof"'):
        return _single(file, expected)
    return _lines(file, expected)


def _parquet(file: Path, expected: bytes | None) -> Checked:
    from p2pcap.export.verifying import verify_parquet

    found = verify_parquet(file, expected)
    tally, unchecked = found.tally, tuple(found.unchecked)
    told = [
        f"{file} holds: {tally.rows} rows, {tally.errors} of them errors, as their authors signed them",
        f"{tally.sealed} of the {tally.results} results they are of are sealed by a checkpoint",
    ]
    if unchecked:
        told.append(f"not checked, the word of whoever exported: {', '.join(unchecked)}")
    counts = {"rows": tally.rows, "errors": tally.errors, "results": tally.results, "sealed": tally.sealed}
    return Checked("parquet", tuple(told), counts, found.project, unchecked=unchecked)


def _single(file: Path, expected: bytes | None) -> Checked:
    from p2pcap.export.single import read_file, verify_single

    found = verify_single(read_file(file), expected)
    row = {name: found.row[name] for name in ROW if found.row.get(name) is not None}
    return Checked("proof", (f"{file} holds: its author signed that",), {"rows": 1}, found.project, row)


def _lines(file: Path, expected: bytes | None) -> Checked:
    from p2pcap.export.proven_lines import verify_file

    if expected is not None:
        raise ConfigError(
            "Lines of JSON prove their authors' signatures, not the project. Export Parquet, or leave --project out."
        )
    counts = verify_file(file)
    if not counts.images:
        raise ConfigError(f"{file} holds no rows, so there is nothing to check. Name an export or a proof.")
    told = (
        f"{file} holds: {counts.images} rows, each signed by its author; {counts.errors} of them are errors",
        "not checked: that the project admitted these authors, and the images' keys (docs/export.md)",
    )
    return Checked("lines", told, {"rows": counts.images, "errors": counts.errors})


def _beginning(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(32)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Check the path.") from error


def _hash(text: str) -> bytes:
    """The project's hash, from itself or a ticket. Raises TicketError, ConfigError."""
    from p2pcap.project.ticket import Ticket

    if len(text) == HEX:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass  # a file may have a name of that length
    return Ticket.parse(ticket_text(text)).root


def _ask(project: Project) -> None:
    """Show which project it is, and on a terminal have the user say that it is the one. Raises UntrustedError."""
    result(f"project     {project.title}")
    result(f"root        {project.hash.hex()}")
    if sys.stdin.isatty() and sys.stderr.isatty():
        if not click.confirm("Is that the root in the ticket you trust?", err=True):
            raise UntrustedError("The file is of a project that you do not trust. Do not use it.")
        return
    warn("compare this root with the ticket that you trust, or give it: --project TICKET. Without it this is proved:")
    warn("that whoever made that project, whoever it is, admitted these authors, and that they signed these rows")
