"""`p2pcap key …`: make and show keys, and change their passphrase. The maintainer's parts add the rest."""

import os
from pathlib import Path

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.output import result, result_json, say
from p2pcap.cli.passphrase import asker, new_passphrase, passphrase_option
from p2pcap.errors import ConfigError, KeyFileError
from p2pcap.identity import Identity, is_encrypted, peer_id_of, public_half, public_of

FILE = click.Path(path_type=Path)
SHOWN = ("As one JSON object.", "Only the peer id.")
"""What `--json` and `--quiet` give where a public key is shown."""


@click.group()
def key() -> None:
    """Make, show, back up and replace keys."""


@key.command(
    epilog="""\b
Examples:
  p2pcap key new root.key --passphrase
  p2pcap key new root.key --passphrase-file secret.txt"""
)
@click.argument("file", type=FILE)
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase to encrypt the key under.")
@forms(*SHOWN)
@passphrase_option
def new(file: Path, passphrase: bool, form: Form, passphrase_file: Path | None) -> None:
    """Make a new key in FILE, for this user only. An existing file is never overwritten."""
    if os.path.lexists(file):
        raise KeyFileError(f"A key file exists already at {file}. Move it away first; it cannot be made again.")
    wanted = passphrase or passphrase_file is not None
    _show(Identity.create(file, new_passphrase(passphrase_file, file) if wanted else b"").public, form)


@key.command(
    epilog="""\b
Examples:
  p2pcap key show cats/keys/root.key
  p2pcap key show 12D3KooW..."""
)
@click.argument("which", metavar="FILE|KEY")
@forms(*SHOWN)
def show(which: str, form: Form) -> None:
    """Show the public half of a key: as a peer id, and in hex. KEY is either of the two. No secret is ever shown."""
    _show(public_named(which), form, is_encrypted(Path(which)) if os.path.lexists(which) else None)


@key.command(
    epilog="""\b
Examples:
  p2pcap key passphrase cats/keys/root.key
  p2pcap key passphrase cats/keys/root.key --remove
  p2pcap key passphrase cats/keys/root.key --passphrase-file old.txt --new-passphrase-file new.txt"""
)
@click.argument("file", type=FILE)
@click.option("--remove", is_flag=True, help="Keep the key without a passphrase.")
@click.option("--new-passphrase-file", type=FILE, metavar="FILE", help="File with the new passphrase.")
@passphrase_option
def passphrase(file: Path, remove: bool, new_passphrase_file: Path | None, passphrase_file: Path | None) -> None:
    """Give the key in FILE a passphrase, change it, or remove it."""
    if remove and new_passphrase_file is not None:
        raise ConfigError("--remove takes no new passphrase. Leave one of the two out.")
    identity = Identity.load(file, asker(passphrase_file))
    identity.set_passphrase(file, b"" if remove else new_passphrase(new_passphrase_file, file))
    say(f"{file} has {'no passphrase any more' if remove else 'a new passphrase'}")


def public_named(which: str) -> bytes:
    """The public key that a person names: by its file, its peer id, or in hex. Raises ConfigError, KeyFileError."""
    if len(which) == 64 and set(which.lower()) <= set("0123456789abcdef"):
        return bytes.fromhex(which)
    if os.path.lexists(which):  # False, where Path.exists would raise, for what can be no path
        return public_half(Path(which))
    try:
        return public_of(which)
    except ValueError as error:
        raise ConfigError(f"{which[:16]!r} is no key file, no peer id and no key of 64 hex digits.") from error


def _show(public: bytes, form: Form, encrypted: bool | None = None) -> None:
    if form == "json":
        result_json({"peer_id": peer_id_of(public), "public_key": public.hex(), "passphrase": encrypted})
        return
    if form == "quiet":
        result(peer_id_of(public))
        return
    result(f"peer id: {peer_id_of(public)}")
    result(f"public key: {public.hex()}")
    if encrypted is not None:
        result(f"passphrase: {'yes' if encrypted else 'no'}")
