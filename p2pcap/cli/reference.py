"""What is made from the commands themselves: docs/cli.md, and p2pcap/cli/summaries.py, which lists them without loading
any. `python -m p2pcap.cli.reference` writes both, `--check` compares.

Always holds: the texts do not depend on the machine, the terminal or the environment.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from p2pcap.cli.exits import MEANINGS
from p2pcap.cli.main import program
from p2pcap.cli.output import warn

PLACE = Path(__file__).parents[2] / "docs" / "cli.md"
LISTED = Path(__file__).with_name("summaries.py")
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


LIST_HEAD = '''\
"""What a list of the commands says of each, so that `p2pcap --help` need load none of them.

Made by `python -m p2pcap.cli.reference` from the commands; edit those.
"""

SUMMARIES = {
'''


def summaries() -> str:
    """The whole module."""
    root = program.make_context("p2pcap", [], resilient_parsing=True)
    found = ((name, program.get_command(root, name)) for name in program.list_commands(root))
    lines = [f"    {_text(name)}: {_text(found.get_short_help_str(WIDTH))},\n" for name, found in found if found]
    return LIST_HEAD + "".join(lines) + "}\n"


def _text(text: str) -> str:
    """As Python writes it, formatted as the other modules are."""
    return f"'{text}'" if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)


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
    """Write or check the files. 1 when one is out of date."""
    code = 0
    for place, text in ((LISTED, summaries()), (PLACE, reference())):
        if "--check" not in sys.argv[1:]:
            place.write_text(text)
        elif not place.is_file() or place.read_text() != text:
            warn(f"{place} is out of date. Run: python -m p2pcap.cli.reference")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
