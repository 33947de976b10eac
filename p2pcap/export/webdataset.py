"""Tars for webdataset: of each image its captions as `.txt`, what is known of it as `.json`, and the image where asked.

A sample's name is the image's up to the first dot of its last part, as webdataset cuts it, so that tars of captions can
be read beside the tars of images. A new tar begins after SHARD samples, or SHARD_BYTES.

Always holds: names are unique in all tars together; the bytes hold no time and no user of this machine; a tar is there
whole or not at all, and one that is there with the same contents is written again with the same.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path

import msgspec

from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts
from p2pcap.export.destination import folder, same_or_whole
from p2pcap.export.escape import safe_json
from p2pcap.export.image_names import Named, images
from p2pcap.export.sidecars import NOT_THERE, texts_of
from p2pcap.export.source import Source

SHARD, SHARD_BYTES = 10_000, 1_000_000_000
SHARD_NAME = "captions-{:06}.tar"
MAX_IMAGE = 64 * 1024 * 1024
"""Bytes of an image that is taken along."""

Sample = tuple[str, dict[str, bytes]]
"""A sample's name, and its members by suffix."""


def write_webdataset(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    pictures: Path | None,
    force: bool,
    progress: Callable[[int], None],
) -> Counts:
    """Write tars into the folder `destination`; with the images from the folder `pictures`, and then without samples
    whose image is not there. Raises ConfigError, QueryError, StoreError."""
    counts = Counts()
    folder(destination)
    with images(source, asked, texts_of(asked), counts, progress) as found:
        samples = (sample for image in found if (sample := _sample(image, pictures, counts)))
        for number in count():
            first = next(samples, None)
            if first is None and number > 0:
                break
            with same_or_whole(destination / SHARD_NAME.format(number), force=force) as part:
                _write(part, chain([first] if first else [], samples))
    return counts


def _write(path: Path, samples: Iterator[Sample]) -> None:
    """A tar with as many samples as one may have."""
    size = 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in islice(samples, SHARD):
            size += _add(tar, sample)
            if size >= SHARD_BYTES:
                return


def _sample(image: Named, pictures: Path | None, counts: Counts) -> Sample | None:
    """The sample; None when its picture is wanted and is not there."""
    text = {".txt": image.content.encode() + b"\n", ".json": _about(image)}
    if pictures is None:
        return _key(image.name), text
    data = _picture(pictures / image.path)
    if data is None:
        counts.drop(NOT_THERE)
        return None
    return _key(image.name), {(Path(image.path).suffix or ".img").lower(): data} | text


def _about(image: Named) -> bytes:
    return safe_json(msgspec.json.encode({"key": image.path, "captions": image.content.split("\n")})) + b"\n"


def _picture(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_IMAGE + 1)
    except OSError:
        return None
    return data if len(data) <= MAX_IMAGE else None


def _key(name: str) -> str:
    """The name with no dot in its last part, at which webdataset would cut it; different names stay different."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.replace("%", "%25").replace(".", "%2E")


def _add(tar: tarfile.TarFile, sample: Sample) -> int:
    """Add the sample's members. Returns their bytes."""
    name, members = sample
    for suffix, data in members.items():
        member = tarfile.TarInfo(name + suffix)
        member.size, member.mode = len(data), 0o644
        tar.addfile(member, io.BytesIO(data))
    return sum(map(len, members.values()))
