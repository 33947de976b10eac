"""`p2pcap import`: captions that images have already, taken over from other programs."""

from pathlib import Path

import click

from p2pcap.cli.output import say


@click.command(
    "import",
    epilog="""\b
Examples:
  p2pcap import export/default.jsonl ~/pictures            from CaptionFlow
  p2pcap import meta_cap.json ~/pictures --dry-run         from kohya's scripts
  p2pcap import captions.parquet ~/pictures --column alt_text --as title""",
)
@click.argument("captions", type=click.Path(path_type=Path, exists=True))
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--column", metavar="NAME", help="Where the captions are. [default: captions, caption or text]")
@click.option("--as", "field", default="caption", show_default=True, metavar="FIELD", help="The images' field to fill.")
@click.option("--replace", is_flag=True, help="Also where the field is there.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def import_(captions: Path, images: Path, column: str | None, field: str, replace: bool, dry_run: bool) -> None:
    """Put the captions in CAPTIONS beside the images in the folder IMAGES, as fields that project.yaml can name.

    CAPTIONS is an export of CaptionFlow (JSON Lines, CSV, Parquet, a Lance folder), kohya's metadata JSON, the metadata
    of an image folder, webshart's index, or lines of p2pcap. Captions in .txt files beside the images need no import.
    """
    from p2pcap_bootstrap.importing import Images, put_beside
    from p2pcap_bootstrap.prior import read

    done = put_beside(read(captions, column), Images(images), field, replace=replace, dry_run=dry_run)
    verb = "would write" if dry_run else "wrote"
    say(f"{verb} {done.written} captions beside their images; {done.kept} images had one already")
    if done.missing or done.unclear:
        say(f"left out: {done.missing} rows whose image is not there, {done.unclear} whose name several images have")
    say(
        f"next, in project.yaml under images: fields: [{field}], caption_field: {field}, captioned: skip|append|replace"
    )
