"""`p2pcap project …` and `p2pcap bootstrap …`: the maintainer's commands."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from p2pcap.cli.network import NetworkChoice, network_options, network_settings
from p2pcap.cli.output import result, say
from p2pcap.cli.passphrase import asker, passphrase_option
from p2pcap.errors import ConfigError
from p2pcap_bootstrap.key_commands import public_keys, tell_root
from p2pcap_bootstrap.project_commands import COMMANDS, project_folder
from p2pcap_bootstrap.pull_commands import pull

if TYPE_CHECKING:
    from p2pcap.project.task import Prompt

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
DEFAULT_PROMPT = "Describe the image."


@click.group()
def project() -> None:
    """Describe and sign a captioning project."""


for command in (*COMMANDS, pull):
    project.add_command(command)


@project.command(
    epilog="""\b
Examples:
  p2pcap project init cats --images ~/cats --model HuggingFaceTB/SmolVLM-256M-Instruct
  p2pcap project init cats --images ~/cats --model ./my-model --prompt caption="Describe the cat."
  p2pcap project init cats --images hf://datasets/huggingface/cats-image --model ./my-model
  p2pcap project init cats --images ~/cats --model ./my-model --root-key 12D3KooW... --threshold 2"""
)
@DIRECTORY
@click.option(
    "--images",
    required=True,
    metavar="SOURCE",
    help="Folder, file or pattern; hf://datasets/OWNER/NAME; or an https address.",
)
@click.option("--model", required=True, help="Model directory, or its name on the Hub.")
@click.option("--revision", default="", help="40-hex commit of a model on the Hub. [default: the newest when signing]")
@click.option("--name", default="", help="The project's name. [default: the folder's]")
@click.option(
    "--prompt", "prompts", multiple=True, metavar="[NAME=]TEXT", help="A question about each image; repeatable."
)
@click.option("--dtype", default="auto", type=click.Choice(["auto", "float32", "float16", "bfloat16"]))
@click.option("--chunk", default=1024, show_default=True, type=click.IntRange(64, 16_384), help="Images in a chunk.")
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(1, 8192), help="Longest answer.")
@click.option("--image-edge", default=0, show_default=True, type=click.IntRange(0, 8192), help="Scale images to this.")
@click.option(
    "--wait-for-engines", default=1, show_default=True, type=click.IntRange(1, 1000), help="Start with so many."
)
@click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    metavar="FILE|KEY",
    callback=public_keys,
    help="Public root key of another maintainer; repeatable.",
)
@click.option(
    "--threshold", default=1, show_default=True, type=click.IntRange(1, 16), help="How many root keys must sign a root."
)
def init(
    directory: Path,
    images: str,
    model: str,
    revision: str,
    name: str,
    prompts: tuple[str, ...],
    dtype: str,
    chunk: int,
    max_tokens: int,
    image_edge: int,
    wait_for_engines: int,
    root_keys: tuple[bytes, ...],
    threshold: int,
) -> None:
    """Make DIRECTORY with a commented project.yaml and the project's keys."""
    from p2pcap_bootstrap.cosigning import waiting
    from p2pcap_bootstrap.creating import NewProject, create

    asked = tuple(_prompt(text, number) for number, text in enumerate(prompts or (DEFAULT_PROMPT,), 1))
    new = NewProject(
        images,
        model,
        name or Path(os.path.abspath(directory)).name,
        asked,
        revision,
        dtype,
        chunk,
        max_tokens,
        image_edge,
        wait_for_engines,
        root_keys,
        threshold,
    )
    workspace = create(directory, new)
    say(f"made {directory}: edit project.yaml if you like, then run: p2pcap project sign {directory}")
    say(f"keep {workspace.root_key} safe: it is the project")
    if (waits := waiting(workspace)) is not None:
        tell_root(workspace, waits)


@project.command(
    epilog="""\b
Examples:
  p2pcap project sign cats
  p2pcap project sign cats --no-images      other prompts, stages or rules; nobody looks for images"""
)
@project_folder
@click.option("--images/--no-images", default=True, help="Look for new images. [default: yes]")
@passphrase_option
def sign(directory: Path, images: bool, passphrase_file: Path | None) -> None:
    """Find the images, plan the chunks and sign the manifest of DIRECTORY."""
    from p2pcap.cli.notices import show_warnings
    from p2pcap_bootstrap import config
    from p2pcap_bootstrap.audit_file import audit_notes
    from p2pcap_bootstrap.checking import notes
    from p2pcap_bootstrap.counter import counter
    from p2pcap_bootstrap.signing import sign as sign_project
    from p2pcap_bootstrap.stages import stage_notes
    from p2pcap_bootstrap.workspace import Workspace

    show_warnings()
    workspace = Workspace(directory, asker(passphrase_file))
    with counter() as count:
        done = sign_project(workspace, config.read(workspace.directory), count, images)
    signed = workspace.project()
    told = (note for stage in signed.stages for note in notes(stage.task))
    for note in (*told, *stage_notes(signed.stages), *audit_notes(signed.stages, workspace.directory)):
        say(f"note: {note}")
    if done.gone:
        say(f"note: {done.gone} images are not there any more; they keep their places")
    draft = workspace.draft.exists()
    say(
        f"signed {signed.title}: manifest {signed.manifest.version}, {signed.images} images in {len(signed.counts)} "
        f"chunks, project {signed.hash.hex()[:16]}; {done.added} images are new; next: p2pcap "
        f"{'bootstrap serve' if draft else 'project publish'} {workspace.directory}"
    )


@click.group()
def bootstrap() -> None:
    """Serve a signed project to volunteers."""


@bootstrap.command(
    epilog="""\b
Examples:
  p2pcap bootstrap serve cats
  p2pcap bootstrap serve cats --listen /ip4/0.0.0.0/tcp/4001 --announce /dns4/cats.example.org/tcp/4001"""
)
@DIRECTORY
@click.option(
    "--listen", multiple=True, metavar="MULTIADDR", help="Where to listen. [default: any port, all interfaces]"
)
@click.option("--announce", multiple=True, metavar="MULTIADDR", help="Address volunteers reach this machine at.")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="MULTIADDR",
    help="A peer of the project, for a coordinator that starts on another machine.",
)
@network_options
@passphrase_option
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def serve(
    directory: Path,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    peers: tuple[str, ...],
    passphrase_file: Path | None,
    log_level: str,
    **network: Unpack[NetworkChoice],
) -> None:
    """Serve the signed project of DIRECTORY; prints the ticket, then runs until stopped."""
    from p2pcap.cli.live import run_shown
    from p2pcap.node.options import DEFAULT_LISTEN, NodeOptions
    from p2pcap_bootstrap import config
    from p2pcap_bootstrap.serving import load_seed, local_images, make_ticket
    from p2pcap_bootstrap.workspace import Workspace

    workspace = Workspace(directory, asker(passphrase_file))
    workspace.draft.unlink(missing_ok=True)
    opened = workspace.project()
    file = config.read(directory)
    options = NodeOptions(
        directory=workspace.node,
        role="coordinator",
        ticket=make_ticket(workspace, opened),
        listen=listen or DEFAULT_LISTEN,
        peers=peers,
        network=network_settings(network, listen or DEFAULT_LISTEN, relay="yes", announce=announce),
        seed=load_seed(workspace, file, opened),
        follow_symlinks=file.source.follow_symlinks,
        local_images=local_images(workspace, file),
        outbox=directory / "outbox",
    )
    run_shown(options, log_level, on_listening=result)


def _prompt(text: str, number: int) -> "Prompt":
    from p2pcap.codec import decode, encode
    from p2pcap.errors import CodecError
    from p2pcap.project.task import Prompt

    name, mark, rest = text.partition("=")
    if not (mark and name.isidentifier()):
        name, rest = "caption" if number == 1 else f"caption_{number}", text
    try:
        return decode(encode({"name": name, "text": rest}), Prompt, 10_000)
    except CodecError as error:
        raise ConfigError(f"--prompt {text!r}: {error} Write --prompt name=text, the name in lower case.") from error
