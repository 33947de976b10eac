"""What is signed for good is asked about first, on a terminal.

Always holds: where nobody can answer, nothing goes on as if somebody had.
"""

import sys

import click

from p2pcap.errors import ConfigError


def confirm(question: str, yes: bool) -> None:
    """Return when the question is answered with yes, or `yes` says so already. Raises ConfigError where there is no
    terminal to ask on, click.Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("This is signed for good, so it is asked about on a terminal. In a script add --yes.")
    click.confirm(question, abort=True, err=True)
