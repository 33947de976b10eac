"""`p2pcap export` in the forms that trainers read: files beside images, and what their scripts expect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from p2pcap.cli.export_options import asked, destination, filters, held_source, shapes, table_form, write, write_from
from p2pcap.export.columns import Shape
from p2pcap.export.counts import Counts

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
    return write(write_texts, asked(options), destination, force=force, node=node, suffix=suffix, beside=beside)


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

    return write(write_jsons, asked(options), destination, force=force, node=node, beside=beside)


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

    return write(write_kohya, asked(options), destination, force=force, node=node)


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

    return write(write_imagefolder, asked(options), destination, force=force, node=node, beside=beside)


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

    return write(write_webdataset, asked(options), destination, force=force, node=node, pictures=pictures)


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

    return write(write_webshart, asked(options), destination, force=force, node=node)


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

    return write(write_lance, asked(options), destination, force=force, node=node, **table_form(shape, columns))


@click.command(
    name="all",
    epilog="""\b
Example:
  p2pcap export all captions""",
)
@destination("files")
@filters
def everything(destination: Path, force: bool, node: str | None, **options: Any) -> int:
    """Write into the folder DESTINATION: captions.jsonl, .csv and .parquet, and the folders txt and json.

    All of them are of one moment, however long they take and whatever the node learns meanwhile.
    """
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
    form = table_form(None, "")
    writers: list[tuple[str, Callable[..., Counts], dict[str, Any]]] = [
        *((name, each, form) for name, each in tables.items()),
        ("txt", write_texts, {"suffix": ".txt", "beside": False}),
        ("json", write_jsons, {"beside": False}),
    ]
    with held_source(node) as source:
        return max(
            write_from(source, each, wanted, destination / name, force=force, **own) for name, each, own in writers
        )
