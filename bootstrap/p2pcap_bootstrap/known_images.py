"""Which images are in a project's chunks already, so that planning again adds only those that are not.

An image on the maintainer's disk is known by its key and the hash of its bytes: under another name, or with other
bytes, it is another one. One elsewhere is known by its place: an address, or a row or member of a file of that name and
size. Of a file on the Hub the commit does not count: a newer one of a dataset does not make all of it new.

Always holds: each image that was signed is taken for one that is planned at most once, so copies stay as many as there
are; an image takes 8 bytes of memory, and a few more.
"""

import hashlib
import re
from collections import defaultdict

from p2pcap.project.items import Item, ItemList, ParquetRows

DIGEST, TAIL = 10, 8
"""Bytes of an image's digest, and of those that are kept in a bucket: the others are the bucket's name. With 10 million
images the odds that two are taken for one are 1 in 10^10."""

COMMIT, REPOSITORY = re.compile(r"^(hf://[^@]*)@[0-9a-f]{40}"), r"\1"


class KnownImages:
    """A set of images in which one may be several times."""

    def __init__(self) -> None:
        self._buckets: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        self.left = 0
        """How many were added and not taken."""

    def add(self, found: ItemList) -> None:
        """Put the images of a list in."""
        for item in found.items:
            digest = identity(found, item)
            self._buckets[digest[:-TAIL]] += digest[-TAIL:]
        self.left += len(found.items)

    def take(self, found: ItemList, item: Item) -> bool:
        """Whether an image of the list is here; it is not any more then."""
        digest = identity(found, item)
        bucket, tail = self._buckets[digest[:-TAIL]], digest[-TAIL:]
        at = bucket.find(tail)
        while at > 0 and at % TAIL:
            at = bucket.find(tail, at + 1)
        if at < 0:
            return False
        bucket[at : at + TAIL] = bucket[-TAIL:]
        del bucket[-TAIL:]
        self.left -= 1
        return True


def identity(found: ItemList, item: Item) -> bytes:
    """The digest of what tells an image of a list from all others."""
    file = found.file
    place, size, at = ("", 0, 0) if file is None else (file.file, file.size, item.at or 0)
    name = item.key
    if found.travels(item):
        place, size, at = "", 0, 0
    elif file is None:
        place, size, name = str(item.url), item.length, ""
    elif isinstance(file, ParquetRows):  # `at` is counted within the list, and lists may be cut in another way
        at = 0
    told = f"{size}\0{at}\0{item.hash.hex()}\0{COMMIT.sub(REPOSITORY, place)}\0{name}"
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()
