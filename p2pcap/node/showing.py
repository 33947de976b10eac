"""One image of the project for somebody who wants to look at it: a front end's preview.

Always holds: an image that the maintainer has closed is not shown; what is handed out has the hash that was asked for,
and at most MAX_IMAGE bytes; nobody waits longer than WITHIN seconds. Nothing is read from the dataset for it: what is
neither on this machine nor with a peer is not shown.
"""

import hashlib

import trio

from p2pcap.errors import SourceError
from p2pcap.ledger.state import Ledger
from p2pcap.node.images import Images
from p2pcap.project.items import MAX_IMAGE

WITHIN = 10.0
"""Seconds in which a peer must hand the image over: somebody is looking at an empty pane."""


async def show_image(ledger: Ledger, images: Images, chunk: int, item: int, hash_: bytes) -> bytes:
    """The encoded bytes of the image at this place, which has this hash by its item list or by a row. Raises
    SourceError."""
    if chunk >= len(ledger.project.counts) or item >= ledger.project.counts[chunk]:
        raise SourceError(f"The project has no image {chunk}/{item}.")
    if any(work.rows.redacted(chunk) >> item & 1 for work in ledger.works.values()):
        raise SourceError("The maintainer has closed this image: it is not shown.")
    data = await images.load(hash_)
    if data is None:
        with trio.move_on_after(WITHIN):
            data = await images.again(hash_)
    if data is None:
        raise SourceError("The image is not on this machine, and no peer hands it over.")
    if len(data) > MAX_IMAGE or hashlib.sha256(data).digest() != hash_:
        raise SourceError("The image is not the one that was captioned.")
    return data
