"""`p2pcap verify`: whether an export says what was signed, without a node or a network."""

import sys
from pathlib import Path

import click

from p2pcap.cli.join import ticket_text
from p2pcap.cli.output import result, say
from p2pcap.errors import ConfigError, UntrustedError
from p2pcap.project.opened import Project

HEX = 64
"""Digits of a project's hash."""


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
def verify(file: Path, anchor: str | None) -> None:
    """Check that FILE says what its authors signed: an export as Parquet, JSON Lines with proofs, or the proof of one
    caption. Needs no node and no network.

    Everything in FILE is traced to the project's hash, which a ticket names. Without --project the hash is shown, and
    asked about on a terminal: anybody can make a project of any title, with authors of any name.
    """
    expected = _hash(anchor) if anchor is not None else None
    beginning = _beginning(file)
    if beginning.startswith(b"PAR1"):
        project = _parquet(file, expected)
    elif beginning.startswith(b'{"p2pcap_proof"'):
        project = _single(file, expected)
    else:
        _lines(file, expected)
        return
    if expected is None:
        _ask(project)


def _parquet(file: Path, expected: bytes | None) -> Project:
    from p2pcap.export.verifying import verify_parquet

    found = verify_parquet(file, expected)
    tally = found.tally
    say(f"{file} holds: {tally.rows} rows, {tally.errors} of them errors, as their authors signed them")
    say(f"{tally.sealed} of the {tally.results} results they are of are sealed by a checkpoint")
    if found.unchecked:
        say(f"not checked, the word of whoever exported: {', '.join(found.unchecked)}")
    return found.project


def _single(file: Path, expected: bytes | None) -> Project:
    from p2pcap.export.single import read_file, verify_single

    found = verify_single(read_file(file), expected)
    for name in ("key", "image", "caption", "error", "author", "author_name", "model", "time"):
        if found.row.get(name) is not None:
            result(f"{name:<12}{found.row[name]}")
    say(f"{file} holds: its author signed that")
    return found.project


def _lines(file: Path, expected: bytes | None) -> None:
    from p2pcap.export.proven_lines import verify_file

    if expected is not None:
        raise ConfigError(
            "Lines of JSON prove their authors' signatures, not the project. Export Parquet, or leave --project out."
        )
    counts = verify_file(file)
    say(f"{file} holds: {counts.images} rows, each signed by its author; {counts.errors} of them are errors")
    say("not checked: that the project admitted these authors, and the images' keys (docs/export.md)")


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
    say("compare this root with the ticket that you trust, or give it: --project TICKET. Without it this is proved:")
    say("that whoever made that project, whoever it is, admitted these authors, and that they signed these rows")
