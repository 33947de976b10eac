"""docs/cli.md, made from the commands themselves: `python -m p2pcap.cli.reference` writes it, `--check` compares.

Always holds: the text does not depend on the machine, the terminal or the environment.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from p2pcap.cli.exits import MEANINGS
from p2pcap.cli.main import program

PLACE = Path(__file__).parents[2] / "docs" / "cli.md"
WIDTH = 100

HEAD = """\
# The command line

Made by `python -m p2pcap.cli.reference` from the commands; edit those.

Results go to standard output, everything said to people to standard error. An error is one message that says what
happened and what to do; `--debug`, or `P2PCAP_DEBUG=1`, shows where it came from. Every option can also be given as the
environment variable its help names.

| variable | |
|---|---|
| `P2PCAP_HOME` | folder for all nodes of this user; by default the platform's place for a program's data |
| `P2PCAP_NODE` | the node that commands ask, as `--node` |
| `P2PCAP_DEBUG` | `1` shows tracebacks |
| `XDG_RUNTIME_DIR` | the control sockets lie in `p2pcap` in it; without it in the folder for temporary files |

| exit code | |
|---|---|
"""


def reference() -> str:
    """The whole document."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in MEANINGS.items())
    root = program.make_context("p2pcap", [], resilient_parsing=True, terminal_width=WIDTH)
    return HEAD + codes + "".join(_section(command, context) for command, context in commands(program, root))


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below `group` with the context it is called in, groups before what is in them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            inner = click.Context(command, parent=context, info_name=name, terminal_width=WIDTH)
            yield command, inner
            if isinstance(command, click.Group):
                yield from commands(command, inner)


def _section(command: click.Command, context: click.Context) -> str:
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    return f"\n## {context.command_path}\n\n```\n" + "\n".join(lines) + "\n```\n"


def main() -> int:
    """Write or check the file. 1 when it is out of date."""
    text = reference()
    if "--check" not in sys.argv[1:]:
        PLACE.write_text(text)
    elif not PLACE.is_file() or PLACE.read_text() != text:
        click.echo(f"{PLACE} is out of date. Run: python -m p2pcap.cli.reference", err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
