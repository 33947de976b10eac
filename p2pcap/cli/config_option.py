"""`--config`: a file speaks for the options that were not typed and are in no variable.

Always holds: which file it is was said before the command begins, unless --quiet was given.
"""

from pathlib import Path

import click

from p2pcap.cli.output import say
from p2pcap.config import Component, discover

TOLD = "p2pcap.cli.config_option.told"
"""Where a command's context keeps what is to be said of the file in use."""

CONFIGURED: dict[str, Component] = {
    "bench": "node",
    "bootstrap serve": "node",
    "contributors": "tui",
    "join": "node",
    "log": "tui",
    "peers": "tui",
    "seed": "node",
    "status": "tui",
    "tui": "tui",
}
"""Commands that a file speaks for, with the component whose file it is."""


def add_config(root: click.Group, name: str, command: click.Command) -> None:
    """Give a command below `root` its `--config` where a file speaks for it; of a group, those in it. `name` is what is
    typed after the program's."""
    if isinstance(command, click.Group):
        for inner_name, inner in command.commands.items():
            add_config(root, f"{name} {inner_name}", inner)
    component = CONFIGURED.get(name)
    if component is None or any(parameter.name == "config" for parameter in command.params):
        return

    def take(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        if not ctx.resilient_parsing and (found := discover(component, value)) is not None:
            from p2pcap.cli.settings import settings

            ctx.default_map = settings(found, _commands(root, component))[name]
            ctx.meta[TOLD] = found.told

    command.params.append(
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            is_eager=True,
            expose_value=False,
            callback=take,
            metavar="FILE",
            help=f"File with settings. [default: the first {component}.yaml found; p2pcap paths shows which]",
        )
    )


def say_file(ctx: click.Context) -> None:
    """Say which file is in use, once it is known whether anything is to be said."""
    if (told := ctx.meta.pop(TOLD, None)) is not None:
        say(told)


def _commands(root: click.Group, component: Component) -> dict[str, click.Command]:
    """The commands that a component's file speaks for, by what is typed."""
    found: dict[str, click.Command] = {}
    for name in (name for name, its in CONFIGURED.items() if its == component):
        command: click.Command | None = root
        for word in name.split():
            command = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if command is not None:
            found[name] = command
    return found
