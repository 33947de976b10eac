"""`metadata.jsonl` for the `imagefolder` builder of Hugging Face `datasets`: beside the images, a line for each.

The builder opens every file that the metadata name, and fails where one is missing. Always holds: each line names an
image that is in the folder, unless the file is written for a folder without any.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts
from p2pcap.export.destination import whole_file
from p2pcap.export.escape import safe_json
from p2pcap.export.image_names import images
from p2pcap.export.sidecars import NOT_THERE, texts_of
from p2pcap.export.source import Source
from p2pcap.export.tree import Tree

METADATA = "metadata.jsonl"


def write_imagefolder(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    beside: bool,
    force: bool,
    progress: Callable[[int], None],
) -> Counts:
    """Write `metadata.jsonl` into the folder `destination`, with `file_name` and `text`; with `beside` only for images
    that are there. Raises ConfigError, QueryError, StoreError."""
    counts = Counts()
    with (
        Tree(destination, force=force) as tree,
        whole_file(destination / METADATA, force=force) as file,
        images(source, asked, texts_of(asked), counts, progress) as found,
    ):
        for image in found:
            if beside and not tree.has(image.path):
                counts.drop(NOT_THERE)
                continue
            line = msgspec.json.encode({"file_name": image.path, "text": image.content})
            file.write(safe_json(line) + b"\n")
    return counts
