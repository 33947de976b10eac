"""YAML that a person wrote: read within limits, and with the lines that faults are told with.

Always holds: what was composed here stands for at most MAX_VALUES values, has no key twice, and nothing in it holds
itself; every way in which a file can be wrong is a ConfigError that names it.
"""

import difflib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from p2pcap.errors import ConfigError

MAX_FILE = 1_048_576
"""Bytes of a file. The longest that makes sense, sixteen long prompts with a schema each, has half as many."""

MAX_VALUES = 100_000
"""Values that a file stands for, aliases followed: ten lines of aliases can stand for billions."""


class Loader(yaml.SafeLoader):
    """Of a value that only looks like a date or a number, and which Python refuses in whatever way it likes, this says
    where it is (yaml.YAMLError)."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises yaml.YAMLError, RecursionError."""
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # PyYAML lets through what datetime, int and its own tables raise
            kind, text = node.tag.rpartition(":")[2], str(node.value)
            problem = f"{text[:40]}{text[40:] and '…'} cannot be read as {kind}; a text goes in quotes"
            raise ConstructorError(None, None, problem, node.start_mark) from error


def read_text(path: Path, otherwise: str = "Name another file.") -> str:
    """The text of a file; `otherwise` is what to do when there is none. Raises ConfigError."""
    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {path}. {otherwise}") from error
    except (OSError, ValueError) as error:  # the last one: a path that holds a NUL
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise ConfigError(f"{path} cannot be read: {why}. Check its name, its owner and its mode.") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path} has over {MAX_FILE} bytes, so it is not what it is taken for. Name another file.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: byte {error.start} is not UTF-8. Save it as UTF-8.") from error


def compose(text: str, path: Path) -> yaml.Node | None:
    """The values of the file with their lines; None when it holds none. `path` is where people find it. Raises
    ConfigError."""
    try:
        root = yaml.compose(text, Loader)
        if root is not None:
            _check(root, path)
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deep. Make it simpler.") from error
    except yaml.YAMLError as error:
        raise _no_yaml(path, error) from error
    return root


def construct(root: yaml.Node | None, path: Path) -> Any:
    """The values of a file that was composed, as Python has them. Raises ConfigError."""
    try:
        return None if root is None else Loader("").construct_document(root)
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deep. Make it simpler.") from error
    except yaml.YAMLError as error:
        raise _no_yaml(path, error) from error


def line_at(node: yaml.Node) -> int:
    """The number of the line that a value begins in."""
    return int(node.start_mark.line) + 1


def nearest(word: str, here: Sequence[str], elsewhere: Iterable[str] = ()) -> str:
    """The known word that was probably meant; empty when none is near."""
    near = difflib.get_close_matches(word, here, n=1) or difflib.get_close_matches(word, list(elsewhere), n=1)
    return near[0] if near else ""


def _read(path: Path) -> bytes:
    """As much of a file as may be, and one byte more. Opening a pipe or a device does not wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path} is a folder, or no file of another kind. Name a file.")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE + 1)
    finally:
        os.close(descriptor)


def _no_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    return ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.")


def _check(root: yaml.Node, path: Path) -> None:
    """Raises ConfigError for a bomb, and for a key that is given twice."""
    counts: dict[int, int] = {}
    if _count(root, counts, path) > MAX_VALUES:
        raise ConfigError(f"{path} stands for over {MAX_VALUES} values. Use fewer aliases, or write less.")


def _count(node: yaml.Node, counts: dict[int, int], path: Path) -> int:
    """How many values a node stands for. Each node is looked at once, so aliases cost nothing; a node that is not
    counted to its end when it comes again holds itself."""
    known = counts.get(id(node))
    if known is not None:
        if known == 0:
            raise ConfigError(f"{path}, line {line_at(node)}: an alias stands for what it is in. Write it out.")
        return known
    counts[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, path)
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value if isinstance(node, yaml.SequenceNode) else []
    counts[id(node)] = 1 + sum(_count(part, counts, path) for part in parts)
    return counts[id(node)]


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    lines: dict[tuple[str, str], int] = {}
    for name, _ in node.value:
        key = name.tag, str(name.value)
        if key in lines:
            raise ConfigError(
                f"{path}, line {line_at(name)}: `{key[1]}` is given a second time, after line {lines[key]}. Keep one."
            )
        if isinstance(name, yaml.ScalarNode):
            lines[key] = line_at(name)
