"""Passphrases of key files: asked on a terminal, or read from a file; never from the command line or the environment,
where other users and later readers of logs would find them.

Always holds: what was typed or read is shown nowhere.
"""

import getpass
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from p2pcap.errors import KeyFileError
from p2pcap.identity import Passphrase

VARIABLE = "P2PCAP_PASSPHRASE_FILE"
MAX_PASSPHRASE = 1_024
"""Bytes, with the line's end."""

Command = TypeVar("Command", bound=Callable[..., object])


def passphrase_option(command: Command) -> Command:
    """The option for commands that use key files."""
    text = "File with the passphrase of the key files that have one. [default: asked on the terminal]"
    kind = click.Path(path_type=Path)
    return click.option("--passphrase-file", envvar=VARIABLE, type=kind, metavar="FILE", help=text)(command)


def asker(file: Path | None = None) -> Passphrase:
    """Gives the passphrase of a key file: from `file`, else from the file that P2PCAP_PASSPHRASE_FILE names, else from
    the terminal. Raises KeyFileError when there is none of these."""
    place = file or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    return lambda path: _ask(f"Passphrase of {path}: ") if place is None else read_passphrase(place)


def new_passphrase(file: Path | None, what: Path) -> bytes:
    """A passphrase for something new, typed twice unless it stands in a file. Raises KeyFileError."""
    if file is not None:
        return read_passphrase(file)
    first = _ask(f"New passphrase for {what}: ")
    if _ask("Once more: ") != first:
        raise KeyFileError("The two passphrases differ. Nothing was changed; try again.")
    return first


def read_passphrase(file: Path) -> bytes:
    """The file's only line. Raises KeyFileError, also when others may read the file."""
    try:
        with file.expanduser().open("rb") as opened:
            found = os.fstat(opened.fileno())
            data = opened.read(MAX_PASSPHRASE + 1)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "there is no such user"
        raise KeyFileError(
            f"The passphrase file {file} cannot be read: {why}. Check the path and its owner."
        ) from error
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        raise KeyFileError(f"The passphrase file {file} may be read by others. Run: chmod 600 {file}")
    return _sound(data.removesuffix(b"\n").removesuffix(b"\r"), f"The passphrase file {file}")


def _ask(prompt: str) -> bytes:
    if not sys.stdin.isatty():
        raise KeyFileError(
            f"A passphrase is needed, and there is no terminal to ask on. Name the file it stands in: "
            f"--passphrase-file FILE, or {VARIABLE}."
        )
    try:
        typed = getpass.getpass(prompt)
    except EOFError as error:
        raise KeyFileError("No passphrase was typed. Try again.") from error
    return _sound(typed.encode("utf-8", "surrogateescape"), "The passphrase")


def _sound(data: bytes, what: str) -> bytes:
    if not data or len(data) > MAX_PASSPHRASE or b"\n" in data:
        raise KeyFileError(f"{what} is empty, too long or of several lines. A passphrase is one line.")
    return data
