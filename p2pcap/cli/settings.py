"""What a configuration file says of the options of the commands that it speaks for.

An option stands in the file by its long name, without the hyphens before it: at the top level for every command that
has it, in a section with a command's name for that command alone, which goes before.

    name: Ada
    bootstrap:
      serve:
        listen: [/ip4/0.0.0.0/tcp/4001]

A value is read as if it had been typed: its text is what counts, be it a number or a date to YAML. Relative paths start
at the file's own folder.

Always holds: the whole file was checked against all commands it may speak for, before any option takes a value from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import yaml

from p2pcap.config import Found
from p2pcap.errors import ConfigError
from p2pcap.paths import expanded
from p2pcap.yaml_file import compose, line_at, nearest, read_text

NAMED_ONLY = frozenset({"trust-remote-code", "url", "when-finished", "yes"})
"""What a file may say only if somebody named it, or put it where this user's files are: a folder of images that was
downloaded may hold a node.yaml as well, and so run its author's code or commands, have this user's key sent to his
server, or agree to what nobody has seen."""

NULL = "tag:yaml.org,2002:null"


def settings(found: Found, commands: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """What the file says, for click's default map of each of `commands`. Raises ConfigError, with the line."""
    root = compose(read_text(found.path), found.path)
    said: dict[str, dict[str, Any]] = {name: {} for name in commands}
    entries = [] if root is None else list(_entries(found, root, "", commands))
    for entry in sorted(entries, key=lambda entry: len(entry.scope.split())):  # a command's own go before all others'
        for name, option in _options(entry, commands).items():
            said[name][str(option.name)] = _value(entry, option, commands[name])
    return said


@dataclass(frozen=True)
class Entry:
    """A line of the file: a key with its value, and the commands it is for (`scope`; empty: all)."""

    found: Found
    scope: str
    key: str
    name: yaml.Node
    value: yaml.Node

    def fault(self, text: str, node: yaml.Node | None = None) -> ConfigError:
        """What is wrong with the entry, or with `node` in it."""
        return _fault(self.found, node or self.name, text)


def _fault(found: Found, node: yaml.Node, text: str) -> ConfigError:
    return ConfigError(f"{found.path}, line {line_at(node)}: {text}")


def _entries(found: Found, node: yaml.Node, scope: str, commands: Mapping[str, click.Command]) -> Iterator[Entry]:
    """Every key of a section, and of the sections in it."""
    if not isinstance(node, yaml.MappingNode):
        where = f"section {scope} holds" if scope else "the file holds"
        raise _fault(found, node, f"{where} no keys with values. Write lines like `name: Ada`.")
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise _fault(found, name, "a key is a single word. Write lines like `name: Ada`.")
        key = str(name.value)
        inner = f"{scope} {key}".strip()
        if any(command == inner or command.startswith(f"{inner} ") for command in commands):
            yield from _entries(found, value, inner, commands)
        else:
            yield Entry(found, scope, key, name, value)


def _long_names(command: click.Command) -> dict[str, click.Option]:
    """The options that may stand in a file, by their long names."""
    options = [option for option in command.params if isinstance(option, click.Option) and option.name != "config"]
    return {name[2:]: option for option in options for name in option.opts if name.startswith("--")}


def _options(entry: Entry, commands: Mapping[str, click.Command]) -> dict[str, click.Option]:
    """The option that is meant, of each command that has it. Raises ConfigError when none has it, or it may not stand
    here."""
    meant = {name: command for name, command in commands.items() if f"{name} ".startswith(f"{entry.scope} ".lstrip())}
    known = {name: _long_names(command) for name, command in meant.items()}
    having = {name: options[entry.key] for name, options in known.items() if entry.key in options}
    if not having:
        raise _unknown(entry, list(meant), sorted({key for options in known.values() for key in options}))
    if entry.key in NAMED_ONLY and entry.found.here:
        raise entry.fault(
            f"`{entry.key}` does not count in a file that lay in the current folder. Name the file with --config."
        )
    return having


def _unknown(entry: Entry, commands: Sequence[str], keys: Sequence[str]) -> ConfigError:
    """What may have been meant: a section where there is one, else one of the keys."""
    depth = len(entry.scope.split())
    sections = [command.split()[depth] for command in commands if len(command.split()) > depth]
    wanted = sections if isinstance(entry.value, yaml.MappingNode) else keys
    near = nearest(entry.key, wanted, [*keys, *sections])
    meaning = f"; did you mean `{near}`?" if near else f". p2pcap {entry.scope or commands[0]} --help lists all."
    return entry.fault(f"unknown key `{entry.key[:80]}`{meaning}")


def _value(entry: Entry, option: click.Option, command: click.Command) -> str | list[str]:
    """The value as it would be typed. Raises ConfigError for what the option would refuse."""
    if isinstance(entry.value, yaml.SequenceNode) and option.multiple:
        texts = [_text(entry, node, option) for node in entry.value.value]
    else:
        texts = [_text(entry, entry.value, option)]
    value = texts if option.multiple else texts[0]
    try:
        option.type_cast_value(click.Context(command, info_name=command.name), value)
    except click.BadParameter as error:
        raise entry.fault(f"`{entry.key}` cannot be that: {error.message}", entry.value) from error
    return value


def _text(entry: Entry, node: yaml.Node, option: click.Option) -> str:
    """What a scalar says, a path whole."""
    if not isinstance(node, yaml.ScalarNode):
        wanted = "a list of single values" if option.multiple else "a single value"
        raise entry.fault(f"`{entry.key}` has to be {wanted}.", node)
    if node.tag == NULL:
        raise entry.fault(f"`{entry.key}` has no value. Give it one, or remove the line.")
    if "\0" in node.value:
        raise entry.fault(f"`{entry.key}` holds a NUL. Remove it.", node)
    if not isinstance(option.type, click.Path):
        return str(node.value)
    try:
        return str(entry.found.path.parent / expanded(node.value))
    except ConfigError as error:
        raise entry.fault(str(error), node) from error
