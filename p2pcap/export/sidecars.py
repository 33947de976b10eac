"""A file for each image, beside it or in folders of the same names: `.txt` as trainers read it, or `.json`.

In a `.txt` each line is a caption of its own: SimpleTuner, kohya's scripts and OneTrainer take one of them. So a
caption has no line breaks inside.

Always holds: as p2pcap.export.image_names and p2pcap.export.tree say, of names and of files.
"""

from collections.abc import Callable
from pathlib import Path

from p2pcap.export.asking import Asked
from p2pcap.export.columns import table
from p2pcap.export.counts import Counts
from p2pcap.export.escape import safe_json
from p2pcap.export.image_names import images
from p2pcap.export.jsonl import json_object
from p2pcap.export.source import Source
from p2pcap.export.tree import Tree

NOT_THERE, NO_NAME = "not in the folder", "whose name no file can have"

UNSEEN = r"[\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]+"
"""Line breaks, and what else no editor shows."""


def one_line(text: str) -> str:
    """SQL: a text on one line; NULL when nothing is left of it."""
    return f"nullif(trim(regexp_replace({text}, '{UNSEEN}', ' ', 'g')), '')"


def texts_of(asked: Asked) -> str:
    """SQL: one relation for p2pcap.export.image_names.images: of each row the texts that trainers shall have, a line
    each: those of the prompts asked for, else that of the first one."""
    content = one_line("caption")
    if asked.prompts:
        content = f"nullif(array_to_string([{one_line('x')} FOR x IN texts], chr(10)), '')"
    return f"""
        SELECT key AS k, file AS f, {content} AS content, chunk, item, place, stage_no AS number,
            skip, error IS NOT NULL AS failed
        FROM {asked.rows}"""


def objects_of(source: Source, asked: Asked) -> str:
    """SQL: the same with one JSON object for each image, with a member for each prompt."""
    named = "any_value(key) AS k, any_value(file) AS f, 0 AS number"
    return table(source, asked, "wide", (), lambda columns: f"{json_object(columns)} AS content, {named}").sql


def write_texts(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    suffix: str,
    beside: bool,
    force: bool,
    progress: Callable[[int], None],
) -> Counts:
    """Write an image's captions to a file with its name and `suffix`; with `beside` only where the image itself is.

    Raises ConfigError, QueryError, StoreError.
    """
    return _write(source, asked, destination, texts_of(asked), _text, suffix, beside, force, progress)


def write_jsons(
    source: Source, asked: Asked, destination: Path, *, beside: bool, force: bool, progress: Callable[[int], None]
) -> Counts:
    """Write what is said of an image as one JSON object, with a member for each prompt. Raises as `write_texts`."""
    return _write(source, asked, destination, objects_of(source, asked), _json, ".json", beside, force, progress)


def _text(content: str) -> bytes:
    return content.encode() + b"\n"


def _json(content: str) -> bytes:
    return safe_json(content.encode()) + b"\n"


def _write(
    source: Source,
    asked: Asked,
    destination: Path,
    rows: str,
    encoded: Callable[[str], bytes],
    suffix: str,
    beside: bool,
    force: bool,
    progress: Callable[[int], None],
) -> Counts:
    counts = Counts()
    with Tree(destination, force=force) as tree, images(source, asked, rows, counts, progress) as found:
        for image in found:
            if beside and not tree.has(image.path):
                counts.drop(NOT_THERE)
            elif not tree.put(image.name + suffix, encoded(image.content)):
                counts.drop(NO_NAME, failure=True)
    return counts
