"""Tar files made by the tests, and what is expected of them."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def image(name: str, length: int = 700) -> bytes:
    """Bytes that nothing else in a test has, of a length that depends on the name."""
    length += sum(name.encode()) % 613
    return hashlib.shake_128(name.encode()).digest(length)


def pack(path: Path, members: Iterable[tuple[str, bytes]], form: str = "gnu") -> Path:
    """A tar of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=FORMATS[form]) as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def special(path: Path, *kinds: tuple[str, bytes], then: Iterable[tuple[str, bytes]] = ()) -> Path:
    """A tar of members that are no files (name, kind), followed by files."""
    with tarfile.open(path, "w") as tar:
        for name, kind in kinds:
            about = tarfile.TarInfo(name)
            # A size that means nothing: no content follows.
            about.type, about.linkname, about.size = kind, "elsewhere.jpg", 1_000
            tar.addfile(about)
        for name, data in then:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path
