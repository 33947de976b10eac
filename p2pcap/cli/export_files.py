"""`p2pcap export` in the forms that trainers read: files beside images, and what their scripts expect."""

from pathlib import Path
from typing import Any

import click

from p2pcap.cli.export_options import asked, destination, filters, names, shapes, source_with_progress, tell
from p2pcap.export.columns import Shape

BESIDE = click.option("--beside", is_flag=True, help="Only for images that are in the folder, beside them.")


@click.command(
    epilog="""\b
Examples:
  p2pcap export txt captions
  p2pcap export txt my-photos --beside
  p2pcap export txt tags --prompt objects --suffix .caption"""
)
@destination("files")
@BESIDE
@click.option("--suffix", default=".txt", show_default=True, help="How the files' names end.")
@filters
def txt(destination: Path, force: bool, node: str | None, beside: bool, suffix: str, **options: Any) -> int:
    """Write a text file for each image into the folder DESTINATION, a caption a line.

    Folders are those of the images. Captions are the answers to the first prompt of each stage, or to the prompts that
    --prompt names. An export that was broken off goes on where it was.
    """
    from p2pcap.export.sidecars import write_texts

    if not suffix.startswith(".") or "/" in suffix or "\0" in suffix:
        raise click.BadParameter("it begins with a dot and has no slash", param_hint="--suffix")
    with source_with_progress(node) as (source, progress):
        counts = write_texts(
            source, asked(options), destination, suffix=suffix, beside=beside, force=force, progress=progress
        )
    return tell(counts, destination)


@click.command(
    epilog="""\b
Example:
  p2pcap export json captions"""
)
@destination("files")
@BESIDE
@filters
def json(destination: Path, force: bool, node: str | None, beside: bool, **options: Any) -> int:
    """Write a JSON file for each image into the folder DESTINATION, with a member for each prompt."""
    from p2pcap.export.sidecars import write_jsons

    with source_with_progress(node) as (source, progress):
        counts = write_jsons(source, asked(options), destination, beside=beside, force=force, progress=progress)
    return tell(counts, destination)


@click.command(
    epilog="""\b
Example:
  p2pcap export kohya meta_cap.json"""
)
@destination("file")
@filters
def kohya(destination: Path, force: bool, node: str | None, **options: Any) -> int:
    """Write the metadata file of kohya's scripts (in_json): captions by image, below the image folder."""
    from p2pcap.export.kohya import write_kohya

    with source_with_progress(node) as (source, progress):
        counts = write_kohya(source, asked(options), destination, force=force, progress=progress)
    return tell(counts, destination)


@click.command(
    epilog="""\b
Example:
  p2pcap export imagefolder my-photos --beside"""
)
@destination("file")
@BESIDE
@filters
def imagefolder(destination: Path, force: bool, node: str | None, beside: bool, **options: Any) -> int:
    """Write metadata.jsonl into the folder DESTINATION, as Hugging Face's imagefolder reads it beside the images."""
    from p2pcap.export.imagefolder import write_imagefolder

    with source_with_progress(node) as (source, progress):
        counts = write_imagefolder(source, asked(options), destination, beside=beside, force=force, progress=progress)
    return tell(counts, destination)


@click.command(
    epilog="""\b
Examples:
  p2pcap export webdataset shards
  p2pcap export webdataset shards --images my-photos"""
)
@destination("tars")
@click.option(
    "--images",
    "pictures",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the images along, from this folder; only those that are in it.",
)
@filters
def webdataset(destination: Path, force: bool, node: str | None, pictures: Path | None, **options: Any) -> int:
    """Write tars of .txt and .json for webdataset into the folder DESTINATION, 10,000 images in each."""
    from p2pcap.export.webdataset import write_webdataset

    with source_with_progress(node) as (source, progress):
        counts = write_webdataset(
            source, asked(options), destination, pictures=pictures, force=force, progress=progress
        )
    return tell(counts, destination)


@click.command(
    epilog="""\b
Example:
  p2pcap export webshart indexes"""
)
@destination("captions in the indexes")
@filters
def webshart(destination: Path, force: bool, node: str | None, **options: Any) -> int:
    """Write captions into webshart's indexes in the folder DESTINATION, one .json for each tar of the dataset."""
    from p2pcap.export.webshart import write_webshart

    with source_with_progress(node) as (source, progress):
        counts = write_webshart(source, asked(options), destination, force=force, progress=progress)
    return tell(counts, destination)


@click.command(
    epilog="""\b
Example:
  p2pcap export lance captions.lance"""
)
@destination("dataset")
@shapes
@filters
def lance(destination: Path, force: bool, node: str | None, shape: Shape | None, columns: str, **options: Any) -> int:
    """Write a Lance dataset to the folder DESTINATION. Needs the extra "lance"."""
    from p2pcap.export.lance import write_lance

    with source_with_progress(node) as (source, progress):
        counts = write_lance(
            source,
            asked(options),
            destination,
            shape=shape or "rows",
            columns=names(columns),
            force=force,
            progress=progress,
        )
    return tell(counts, destination)


@click.command(
    name="all",
    epilog="""\b
Example:
  p2pcap export all captions""",
)
@destination("files")
@filters
def everything(destination: Path, force: bool, node: str | None, **options: Any) -> int:
    """Write into the folder DESTINATION: captions.jsonl, .csv and .parquet, and the folders txt and json."""
    from p2pcap.export.csv import write_csv
    from p2pcap.export.destination import check_file, folder
    from p2pcap.export.jsonl import write_jsonl
    from p2pcap.export.parquet import write_parquet
    from p2pcap.export.sidecars import write_jsons, write_texts

    wanted = asked(options)
    folder(destination)
    tables = {"captions.jsonl": write_jsonl, "captions.csv": write_csv, "captions.parquet": write_parquet}
    for name in tables:
        check_file(destination / name, force=force)
    codes = []
    for name, write in tables.items():
        with source_with_progress(node) as (source, progress):
            counts = write(source, wanted, destination / name, shape="rows", columns=(), force=force, progress=progress)
        codes.append(tell(counts, destination / name))
    to_text, to_json = destination / "txt", destination / "json"
    with source_with_progress(node) as (source, progress):
        counts = write_texts(source, wanted, to_text, suffix=".txt", beside=False, force=force, progress=progress)
    codes.append(tell(counts, to_text))
    with source_with_progress(node) as (source, progress):
        counts = write_jsons(source, wanted, to_json, beside=False, force=force, progress=progress)
    return max(*codes, tell(counts, to_json))
