"""`p2pcap key export|import|rotate|sign-root`: what a maintainer does with a project's keys."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from p2pcap.cli.confirming import confirm
from p2pcap.cli.key import key, public_named
from p2pcap.cli.output import say
from p2pcap.cli.passphrase import asker, new_passphrase, passphrase_option
from p2pcap.errors import ConfigError

if TYPE_CHECKING:
    from p2pcap_bootstrap.cosigning import Rotation
    from p2pcap_bootstrap.rotating import Last
    from p2pcap_bootstrap.workspace import Workspace

__all__ = ["key"]

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
FILE = click.Path(path_type=Path)
CHECKPOINT = re.compile(r"(\d{1,9})(?::([0-9a-f]{64}))?")
NEWEST = "SELECT number, hash FROM seal {where} ORDER BY number DESC LIMIT 1"
SECONDS = 60.0
"""How long the coordinator may take to name its newest checkpoint."""


@key.command(
    "export",
    epilog="""\b
Examples:
  p2pcap key export cats cats.backup
  p2pcap key export cats cats.backup --passphrase-file secret.txt""",
)
@DIRECTORY
@click.argument("file", type=FILE)
@click.option("--plain", is_flag=True, help="Do not encrypt the backup.")
@passphrase_option
def export_keys(directory: Path, file: Path, plain: bool, passphrase_file: Path | None) -> None:
    """Back up the keys of a project and all that is signed to FILE, encrypted under a passphrase."""
    from p2pcap_bootstrap.backup import export
    from p2pcap_bootstrap.workspace import Workspace

    if plain and click.get_current_context().get_parameter_source("passphrase_file") is ParameterSource.COMMANDLINE:
        raise ConfigError("--plain takes no passphrase. Leave one of the two out.")
    passphrase = b"" if plain else new_passphrase(passphrase_file, file)
    count = export(Workspace(directory), file, passphrase)
    say(f"{file} holds {count} files of {directory}; keep it on another machine, and its passphrase elsewhere")


@key.command(
    "import",
    epilog="""\b
Example:
  p2pcap key import cats.backup cats""",
)
@click.argument("file", type=FILE)
@DIRECTORY
@passphrase_option
def import_keys(file: Path, directory: Path, passphrase_file: Path | None) -> None:
    """Make the project's folder again from a backup. Nothing is ever overwritten."""
    from p2pcap_bootstrap.backup import restore

    restore(file, directory, asker(passphrase_file))
    say(f"{directory} is restored; next: p2pcap bootstrap serve {directory}")


def public_keys(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[bytes, ...]:
    """Keys that were named on the command line, as click asks an option's callback for them."""
    return tuple(public_named(each) for each in value)


def _verifiers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[bytes, ...] | None:
    return None if value is None else tuple(public_named(each) for each in value.split(",") if each)


@key.command(
    epilog="""\b
Examples:
  p2pcap key rotate cats --coordinator
  p2pcap key rotate cats --stolen --after 41
  p2pcap key rotate cats --add-root-key ann.pub --add-root-key 12D3KooW... --threshold 2"""
)
@DIRECTORY
@click.option("--coordinator", is_flag=True, help="A new coordinator key.")
@click.option("--root", is_flag=True, help="A new root key, in place of those in this folder.")
@click.option("--threshold", type=click.IntRange(1, 16), help="How many root keys must sign the next root.")
@click.option(
    "--add-root-key", "add", multiple=True, metavar="FILE|KEY", callback=public_keys, help="One more root key."
)
@click.option(
    "--remove-root-key", "remove", multiple=True, metavar="KEY", callback=public_keys, help="One root key less."
)
@click.option("--verifier", "verifiers", metavar="KEY,...", callback=_verifiers, help='Verifiers; "" for none.')
@click.option(
    "--verifiers-needed",
    "needed",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="How many verifiers must find a result bad.",
)
@click.option("--stolen", is_flag=True, help="Others have the coordinator's key: what it signed after --after is void.")
@click.option("--after", metavar="NUMBER[:HASH]", help="The last checkpoint that counts. [default: the newest]")
@passphrase_option
def rotate(
    directory: Path,
    coordinator: bool,
    root: bool,
    threshold: int | None,
    add: tuple[bytes, ...],
    remove: tuple[bytes, ...],
    verifiers: tuple[bytes, ...] | None,
    needed: int,
    stolen: bool,
    after: str | None,
    passphrase_file: Path | None,
) -> None:
    """Replace keys of a project by a new root. Without options the root is prolonged by a year.

    What the coordinator's former key signed counts up to a checkpoint: the newest that this folder's node knows, or
    the one that --after names. A coordinator that runs seals all it has first, so let it run.
    """
    from p2pcap_bootstrap import rotating
    from p2pcap_bootstrap.workspace import Workspace

    if stolen and after is None:
        raise ConfigError(
            "--stolen needs the last checkpoint that is surely yours: --after NUMBER. List them with: "
            f'p2pcap query --node {directory}/node "SELECT * FROM checkpoints"'
        )
    workspace = Workspace(directory, asker(passphrase_file))
    changes = rotating.Changes(coordinator or stolen, root, threshold, add, remove, verifiers, needed)
    leaves = changes.coordinator or verifiers is not None
    last = _last(workspace, after) if leaves else rotating.NOTHING
    rotation = rotating.rotate(workspace, changes, last, int(time.time()))
    tell_root(workspace, rotation)
    _tell_backup(workspace, rotation)


@key.command(
    "sign-root",
    epilog="""\b
Examples:
  p2pcap key sign-root root-2.partial --key mine.key
  p2pcap key sign-root cats --add root-2.partial""",
)
@click.argument("target", metavar="FILE|DIRECTORY", type=FILE)
@click.option("--key", "keys", multiple=True, type=FILE, metavar="FILE", help="A root key to sign with.")
@click.option("--add", "others", multiple=True, type=FILE, metavar="FILE", help="A copy that others have signed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@passphrase_option
def sign_root(
    target: Path, keys: tuple[Path, ...], others: tuple[Path, ...], yes: bool, passphrase_file: Path | None
) -> None:
    """Sign a root that waits for signatures: the file that p2pcap key rotate has written, or a project's folder, where
    it is put in force when the last signature is there."""
    from p2pcap.identity import Identity
    from p2pcap_bootstrap import cosigning
    from p2pcap_bootstrap.workspace import Workspace

    ask = asker(passphrase_file)
    workspace = Workspace(target, ask) if target.is_dir() else None
    path = workspace.partial(len(workspace.chain()) + 1) if workspace else target
    before, new, chain = cosigning.read_partial(path)
    say(f"project {chain[0][0].payload_hash.hex()[:16]}: {new.name}")
    for line in cosigning.differences(before, new):
        say(f"  {line}")
    if keys:
        confirm("Sign this root?", yes)
    missing = cosigning.sign_partial(path, [Identity.load(each, ask) for each in keys], others)
    if workspace is not None:
        tell_root(workspace, cosigning.finish(workspace))
    else:
        wanted = cosigning.lacking(missing) if missing else "has all its signatures"
        say(f"{path} {wanted}; send it back to the maintainer")


def _last(workspace: "Workspace", after: str | None) -> "Last":
    """The last checkpoint that counts, as the coordinator's node knows it. Raises ConfigError."""
    from p2pcap_bootstrap.rotating import NOTHING

    found = CHECKPOINT.fullmatch(after) if after is not None else None
    if after is not None and found is None:
        raise ConfigError(f"--after {after!r} is no checkpoint. Write its number, or number:hash.")
    if found is not None and (found[1] == "0" or found[2]):
        return NOTHING if found[1] == "0" else (int(found[1]), bytes.fromhex(found[2]))
    if found is None:
        _seal(workspace)
    known = _checkpoint(workspace, f"WHERE number = {found[1]}" if found is not None else "")
    if known is not None:
        return known
    if found is None and workspace.draft.exists():
        return NOTHING
    raise ConfigError(
        f"The node in {workspace.node} knows no such checkpoint. Start it with p2pcap bootstrap serve until it has "
        "caught up, or name the checkpoint with --after NUMBER:HASH; --after 0 drops all that the old key signed."
    )


def _seal(workspace: "Workspace") -> None:
    """Have the running coordinator seal what the old key has signed so far, so that nothing of it is lost."""
    from p2pcap.node.client import Client
    from p2pcap.paths import running_node

    node = running_node(workspace.node)
    if node is not None:
        with Client(node.socket) as client:
            say(f"the coordinator has sealed what it has, up to checkpoint {client.seal()}")


def _checkpoint(workspace: "Workspace", where: str) -> "Last | None":
    from p2pcap.cli.nodes import Target
    from p2pcap.cli.rows import run_query
    from p2pcap.cli.values import plain
    from p2pcap.paths import running_node

    target = Target(workspace.node, running_node(workspace.node))
    if target.running is None and not target.paths.database.exists():
        return None
    with run_query(target, NEWEST.format(where=where), 1, SECONDS) as rows:
        found = list(plain(rows))
    return (int(str(found[0][0])), bytes.fromhex(str(found[0][1]))) if found else None


def tell_root(workspace: "Workspace", rotation: "Rotation") -> None:
    """Say what has come of a new root; one in force is named by a new manifest at once, where the coordinator's key
    is."""
    from p2pcap_bootstrap.cosigning import differences, lacking

    for line in differences(rotation.before, rotation.root):
        say(line)
    if rotation.partial is None:
        say(f"root {rotation.root.version} is in force here; next: {_next_step(workspace)}")
        return
    say(f"root {rotation.root.version} {lacking(rotation.missing)}. Send {rotation.partial} to the others; each runs:")
    say(f"  p2pcap key sign-root {rotation.partial.name} --key KEYFILE")
    say("and sends it back. Then run, for each file:")
    say(f"  p2pcap key sign-root {workspace.directory} --add FILE")


def _tell_backup(workspace: "Workspace", rotation: "Rotation") -> None:
    """No backup made so far holds the keys that came: who has nothing else cannot go on with the project."""
    if not rotation.keys:
        return
    named = " and ".join(str(path.relative_to(workspace.directory)) for path in rotation.keys)
    say(f"backups made before do not hold {named}: from them alone nobody can sign under root {rotation.root.version}.")
    say(f"Back up again, to a new file: p2pcap key export {workspace.directory} FILE")


def _next_step(workspace: "Workspace") -> str:
    from p2pcap.project.opened import coordinators
    from p2pcap_bootstrap.signing import sign_changed

    if workspace.manifest() is None:
        return f"p2pcap project sign {workspace.directory}"
    if not workspace.held(coordinators(workspace.root_in_force())):
        return f"p2pcap project sign {workspace.directory}, where the coordinator's key is"
    sign_changed(workspace, lambda plan: plan)
    say(f"manifest {workspace.project().manifest.version} is signed, which names it")
    return f"p2pcap project publish {workspace.directory}"
