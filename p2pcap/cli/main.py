"""The program `p2pcap`: finds the command, runs it, and turns whatever ends it into one sentence and an exit code.

Commands are loaded when they are asked for. Other packages add theirs through the entry point group "p2pcap.commands".

Always holds: an error that p2pcap raises on purpose prints its message and no traceback, unless --debug asks for one.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import click

from p2pcap import __version__
from p2pcap.cli.config_option import add_config
from p2pcap.cli.exits import FAILED, INTERRUPTED, OK, exit_code, explained
from p2pcap.cli.output import say
from p2pcap.errors import P2pcapError

COMMANDS = {
    "bench": "p2pcap.cli.bench:bench",
    "contributors": "p2pcap.cli.contributors:contributors",
    "doctor": "p2pcap.cli.doctor:doctor",
    "export": "p2pcap.cli.export:export",
    "failures": "p2pcap.cli.failures:failures",
    "fsck": "p2pcap.cli.fsck:fsck",
    "index": "p2pcap.cli.index:index",
    "join": "p2pcap.cli.join:join",
    "metrics": "p2pcap.cli.metrics:metrics",
    "paths": "p2pcap.cli.paths:paths",
    "proof": "p2pcap.cli.proof:proof",
    "query": "p2pcap.cli.query:query",
    "seed": "p2pcap.cli.seed:seed",
    "status": "p2pcap.cli.status:status",
    "snapshot": "p2pcap.cli.snapshot:snapshot",
    "stop": "p2pcap.cli.stop:stop",
    "table-hash": "p2pcap.cli.table_hash:table_hash",
    "ticket": "p2pcap.cli.ticket:ticket",
    "verify": "p2pcap.cli.verify:verify",
}
PLUGINS = "p2pcap.commands"
DEBUG = "P2PCAP_DEBUG"


class Commands(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, without loading anything."""
        return sorted({*COMMANDS, *metadata.entry_points(group=PLUGINS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, loaded; None when there is none of that name."""
        if place := COMMANDS.get(cmd_name):
            module, _, name = place.partition(":")
            return self._prepared(cmd_name, getattr(import_module(module), name))
        for plugin in metadata.entry_points(group=PLUGINS, name=cmd_name):
            return self._prepared(cmd_name, plugin.load())
        return None

    def _prepared(self, name: str, command: click.Command) -> click.Command:
        """The command with what every command has."""
        add_config(self, name, command)
        return _with_environment(command)


def _with_environment(command: click.Command) -> click.Command:
    """Let the help of each option name its environment variable."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            parameter.show_envvar = True
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _with_environment(inner)
    return command


def _debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[DEBUG] = "1"


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "P2PCAP", "help_option_names": ["-h", "--help"]},
    epilog=f"\b\nExit codes:\n{explained()}",
)
@click.version_option(__version__, prog_name="p2pcap", message="%(prog)s %(version)s")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_debug,
    envvar=DEBUG,
    show_envvar=True,
    help="Show where an error came from.",
)
def program() -> None:
    """Caption image datasets together with others, peer to peer."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    try:
        code: Any = program.main(arguments, prog_name="p2pcap", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last place that can say what happened
        return _failed(error)
    return code if isinstance(code, int) else OK


def _failed(error: Exception) -> int:
    if os.environ.get(DEBUG, "").lower() in ("1", "true", "yes", "on"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, P2pcapError):
        for line in str(error).split("\n"):
            say(line)
    else:
        what = f"{type(error).__name__}: {error}"
        say(f"p2pcap has a defect: {what}. Run it again with --debug, and report what it shows.")
    return exit_code(error)
