"""`p2pcap export hub` and `p2pcap export attribution`: what is published, and whom it names."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import result, result_json, say


@click.command(
    epilog="""\b
Examples:
  p2pcap export hub me/cat-captions --dry-run
  p2pcap export hub me/cat-captions --language en --source-license CC-BY-4.0
  p2pcap export hub me/cat-captions --public"""
)
@click.argument("repo")
@click.option("--public", is_flag=True, help="Make the repository public if it is made now. [default: private]")
@click.option("--dry-run", is_flag=True, help="Print the card, say what would be sent, and send nothing.")
@click.option("--force", is_flag=True, help="Also into a repository that holds something else.")
@click.option("--source-license", default="", metavar="TEXT", help="The licence of the images, for the card.")
@click.option("--language", "languages", multiple=True, metavar="CODE", help="Of the captions, as en; may be repeated.")
@click.option("--tag", "tags", multiple=True, help="Another tag of the card; may be repeated.")
@click.option("--nsfw", is_flag=True, help="Mark the dataset as not for all audiences.")
@forms("What was sent, as one JSON object.")
@node_option
def hub(
    repo: str,
    public: bool,
    dry_run: bool,
    force: bool,
    source_license: str,
    languages: tuple[str, ...],
    tags: tuple[str, ...],
    nsfw: bool,
    form: Form,
    node: str | None,
) -> None:
    """Publish the captions as the dataset REPO (OWNER/NAME) on the Hub of Hugging Face, or bring it up to date.

    Sends Parquet files that carry their proofs, a card, and who made the captions. Only files whose rows changed are
    sent. The images are not sent. The token is that of `hf auth login`, or HF_TOKEN.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    from p2pcap.cli.rows import open_source
    from p2pcap.export.card import Said
    from p2pcap.export.hub import Repository, push
    from p2pcap.sources.hub import endpoint

    if not sys.stderr.isatty():
        disable_progress_bars()
    said = Said(source_license, languages, tags, nsfw)
    repository = Repository(HfApi(endpoint=endpoint()), repo)
    with open_source(find_node(node)) as source:
        done = push(source, repository, said, public=public, force=force, dry_run=dry_run, tell=say)
    if form == "json":
        result_json({"repository": repo, "dry_run": dry_run, **asdict(done)})
        return
    if dry_run and form == "people":
        result_lines(done.card)
    verb = "would send" if dry_run else "sent"
    say(f"{verb} {len(done.sent)} files, left {done.kept} as they are, deleted {len(done.deleted)}")
    say(f"{repo} is {'new and ' if done.new else ''}{'private' if done.private else 'public'}")


@click.command(
    epilog="""\b
Example:
  p2pcap export attribution published/"""
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Replace the files if they exist.")
@node_option
def attribution(folder: Path, force: bool, node: str | None) -> None:
    """Write CONTRIBUTORS.md, contributors.parquet and CITATION.cff into FOLDER."""
    from p2pcap.cli.export_options import held_source
    from p2pcap.export.attribution import write_attribution

    with held_source(node) as source:
        count = write_attribution(folder, source.select, force=force)
    say(f"wrote {folder}: {count} contributors")


def result_lines(text: str) -> None:
    """A text of several lines."""
    for line in text.splitlines():
        result(line)
