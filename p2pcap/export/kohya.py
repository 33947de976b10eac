"""Kohya's metadata: one JSON object with a member for each image, `{"caption": …}`, that its scripts train from.

The scripts look for an image by the member's name: as a path, or in their image folder with any ending of an image.
So the names are those of files about the image (p2pcap.export.image_names), below that folder.

Always holds: an image has one member; several captions of it stand in it on lines of their own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts
from p2pcap.export.destination import whole_file
from p2pcap.export.escape import safe_json
from p2pcap.export.image_names import Named, images
from p2pcap.export.sidecars import texts_of
from p2pcap.export.source import Source


def write_kohya(
    source: Source, asked: Asked, destination: Path, *, force: bool, progress: Callable[[int], None]
) -> Counts:
    """Write the images' captions. Raises ConfigError, QueryError, StoreError."""
    counts = Counts()
    with (
        whole_file(destination, force=force) as file,
        images(source, asked, texts_of(asked), counts, progress) as found,
    ):
        file.write(b"{")
        for member in _members(found):
            file.write(member)
        file.write(b"\n}\n")
    return counts


def _members(found: Iterator[Named]) -> Iterator[bytes]:
    before = b"\n"
    for image in found:
        caption = msgspec.json.encode({"caption": image.content})
        yield before + safe_json(msgspec.json.encode(image.name) + b": " + caption)
        before = b",\n"
