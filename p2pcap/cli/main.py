"""The program `p2pcap`: finds the command, runs it, and turns whatever ends it into one sentence and an exit code.

Commands are loaded when they are asked for; a list of them is made from p2pcap.cli.summaries, which loads none. Other
packages add theirs through the entry point group "p2pcap.commands".

Always holds: an error that p2pcap raises on purpose prints its message and no traceback, unless --debug asks for one.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

import click

from p2pcap import __version__
from p2pcap.cli.exits import FAILED, INTERRUPTED, OK, exit_code, explained
from p2pcap.cli.output import warn
from p2pcap.cli.summaries import SUMMARIES
from p2pcap.errors import P2pcapError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "bench": "p2pcap.cli.bench:bench",
    "completion": "p2pcap.cli.completion:completion",
    "contributors": "p2pcap.cli.contributors:contributors",
    "doctor": "p2pcap.cli.doctor:doctor",
    "export": "p2pcap.cli.export:export",
    "failures": "p2pcap.cli.failures:failures",
    "finish": "p2pcap.cli.pause:finish",
    "fsck": "p2pcap.cli.fsck:fsck",
    "index": "p2pcap.cli.index:index",
    "join": "p2pcap.cli.join:join",
    "log": "p2pcap.cli.log:log",
    "metrics": "p2pcap.cli.metrics:metrics",
    "paths": "p2pcap.cli.paths:paths",
    "pause": "p2pcap.cli.pause:pause",
    "peers": "p2pcap.cli.peers:peers",
    "proof": "p2pcap.cli.proof:proof",
    "query": "p2pcap.cli.query:query",
    "resume": "p2pcap.cli.pause:resume",
    "seed": "p2pcap.cli.seed:seed",
    "service": "p2pcap.cli.service:service",
    "status": "p2pcap.cli.status:status",
    "snapshot": "p2pcap.cli.snapshot:snapshot",
    "stop": "p2pcap.cli.stop:stop",
    "table-hash": "p2pcap.cli.table_hash:table_hash",
    "ticket": "p2pcap.cli.ticket:ticket",
    "tui": "p2pcap.cli.tui:tui",
    "verify": "p2pcap.cli.verify:verify",
}
PLUGINS = "p2pcap.commands"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; but the names it proposes for a wrong one are those of all commands, loaded or not."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary(ctx, name, limit)) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """The commands and options that begin so."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._summary(ctx, name, 100)) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _summary(self, ctx: click.Context, name: str, limit: int) -> str:
        """What is said of a command in a list, in at most `limit` letters."""
        command = click.Command(name, help=SUMMARIES[name]) if name in SUMMARIES else self.get_command(ctx, name)
        return command.get_short_help_str(limit) if command is not None else ""

    def _prepared(self, name: str, command: click.Command) -> click.Command:
        """The command with what every command has."""
        from p2pcap.cli.config_option import add_config
        from p2pcap.cli.forms import add_quiet

        add_config(self, name, command)
        add_quiet(command)
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
        return _misused(error)
    except (KeyboardInterrupt, click.Abort):
        warn("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last place that can say what happened
        return _failed(error)
    return code if isinstance(code, int) else OK


def _misused(error: click.ClickException) -> int:
    told = io.StringIO()
    error.show(told)
    _warn_lines(told.getvalue())
    return error.exit_code


def _failed(error: Exception) -> int:
    if os.environ.get(DEBUG, "").lower() in ("1", "true", "yes", "on"):
        import traceback

        for text in traceback.format_exception(error):
            _warn_lines(text)
    if isinstance(error, P2pcapError):
        _warn_lines(str(error))
    elif isinstance(error, OSError) and error.errno in NO_ROOM:
        warn(f"What it writes finds no room: {error.strerror}. Make room on the disk, or write somewhere else.")
    elif isinstance(error, OSError) and error.filename is not None:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        warn(f"{where}: {error.strerror}. Check the path, who owns it, and its permissions.")
    else:
        what = f"{type(error).__name__}: {error}"
        warn(f"p2pcap has a defect: {what}. Run it again with --debug, and report what it shows.")
    return exit_code(error)


def _warn_lines(text: str) -> None:
    for line in text.removesuffix("\n").split("\n"):
        warn(line)
