"""The forms in which a command gives its results, the same way for all commands.

    (nothing)   for people: lines and tables; what goes on is said on standard error
    --json      for programs: one JSON value on standard output; where results come one by one, a value on each line
    --quiet     bare: one value a line, or nothing where a command only acts; only errors are said

Every command has --quiet, from here or from `forms`; which have --json is a table in tests/unit/test_cli_forms.py.
Always holds: results are on standard output, and standard output holds nothing else.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import click

from p2pcap.cli.config_option import say_file
from p2pcap.cli.output import be_quiet

Form = Literal["people", "json", "quiet"]

Command = Callable[..., Any]

ONLY_ERRORS = "Say nothing but errors."


def forms(json: str, quiet: str = ONLY_ERRORS) -> Callable[[Command], Command]:
    """Give a command `--json` and `--quiet`, with this help; it gets the one that was chosen as `form`."""

    def decorate(command: Command) -> Command:
        @click.option("--json", is_flag=True, help=json)
        @click.option("-q", "--quiet", is_flag=True, callback=_take, help=quiet)
        @wraps(command)
        def formed(json: bool, quiet: bool, **values: Any) -> Any:
            if json and quiet:
                raise click.UsageError("--json and --quiet are two forms of the same. Leave one of them out.")
            form: Form = "json" if json else "quiet" if quiet else "people"
            return command(form=form, **values)

        return formed

    return decorate


def add_quiet(command: click.Command) -> None:
    """Give a command that has no `--quiet` of its own one that leaves out what goes on; of a group, those in it."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_quiet(inner)
    elif not any("--quiet" in parameter.opts for parameter in command.params):
        option = click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_take, help=ONLY_ERRORS)
        command.params.append(option)


def _take(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        be_quiet(ctx)
    say_file(ctx)
    return value
