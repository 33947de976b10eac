"""`p2pcap index`: say once where each file in a tar is, so that nobody has to read the tar to find out.

Always holds: an index takes its place whole or not at all; one tar that is faulty keeps none of the others waiting.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pcap.cli.output import clean, progress, say
from p2pcap.errors import ConfigError, P2pcapError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from p2pcap.sources.files import Files
    from p2pcap.sources.locations import Location
    from p2pcap.sources.tar_walk import Contents

REMOTE = ("hf://", "http://", "https://")

SHOW_EVERY = 0.2
"""Seconds between two looks at the progress."""

OTHERS = 0.1
"""Share of what lies between images that is worth a word: volunteers move it too."""

EMPTY = range(1_024, 10_241)
"""Bytes of a tar without a file: two blocks of zeros at least, and a record of twenty blocks at most (POSIX.1-2017,
pax, ustar format). What is of another size and holds nothing is no tar."""


@click.command(
    epilog="""\b
Examples:
  p2pcap index shards/*.tar
  p2pcap index --output indexes hf://datasets/OWNER/NAME/train/*.tar"""
)
@click.argument("tars", nargs=-1, required=True, metavar="TAR...")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the indexes. [default: beside the tar; for tars elsewhere, the current folder]",
)
@click.option("--hashes", is_flag=True, help="Read local tars whole, and note each file's SHA-256.")
@click.option("--force", is_flag=True, help="Replace indexes that are there already.")
def index(tars: tuple[str, ...], output: Path | None, hashes: bool, force: bool) -> None:
    """Write an index NAME.json for each webdataset shard NAME.tar, in the form of the library webshart.

    TAR is a file, hf://datasets/OWNER/NAME[@REVISION]/PATTERN, or an https address. Of a local tar only headers are
    read; any other one is read from end to end, once. Put the index beside its tar before you sign the project.
    """
    from p2pcap.cli.notices import show_warnings

    show_warnings()
    faults: list[str] = []
    for tar in tars:
        with _noted(tar, faults):
            if tar.startswith(REMOTE):
                _remote(tar, output or Path(), force, faults)
            else:
                faults += _local(Path(tar), output, hashes, force)
    if faults:
        raise ConfigError("\n".join(faults))


@contextmanager
def _noted(tar: object, faults: list[str]) -> Iterator[None]:
    """An error of this tar is added to `faults` and ends the block, and no more than that."""
    try:
        yield
    except P2pcapError as error:
        faults.append(f"{tar}: {error}")


def _local(tar: Path, output: Path | None, hashes: bool, force: bool) -> Iterator[str]:
    """Index a tar on disk. Yields what is wrong with it."""
    from p2pcap.sources.tar_index import index_name, seek_index

    target = (output or tar.parent) / index_name(tar.name)
    try:
        size = tar.stat().st_size
        if _kept(target, force):
            return
        with _Shown(str(tar), size) as shown:
            if hashes:
                found = _read_whole(tar, size, shown)
            else:
                with tar.open("rb") as file:
                    found = seek_index(file, size, shown)
    except OSError as error:
        yield f"{tar} cannot be read: {error.strerror}. Check the path."
    else:
        yield from _written(target, str(tar), tar.name, size, found)


def _read_whole(tar: Path, size: int, shown: Callable[[int], None]) -> "Contents":
    import trio

    from p2pcap.sources.locations import DataFile
    from p2pcap.sources.tar_index import stream_index

    folder = tar.absolute().parent

    async def run() -> "Contents":
        async with _files(folder) as files:
            return await stream_index(files, DataFile(tar.name), size, shown)

    return trio.run(run)


def _remote(source: str, output: Path, force: bool, faults: list[str]) -> None:
    """Index the tars that `source` names, and add to `faults` what is wrong with them. Raises P2pcapError when none is
    found."""
    import trio

    from p2pcap.sources.finding import Shards, find
    from p2pcap.sources.spec import Images

    async def run() -> None:
        async with _files(None) as files:
            found = await find(files, Path(), Images(source=source, kind="tar"))
            assert isinstance(found, Shards)
            for shard in found.shards:
                with _noted(shard.location, faults):
                    faults.extend(await _streamed(files, shard.location, output, force))

    trio.run(run)


async def _streamed(files: "Files", tar: "Location", output: Path, force: bool) -> Sequence[str]:
    from p2pcap.sources.tar_index import index_name, stream_index

    path = _path_of(tar)
    target = output / index_name(path)
    if _kept(target, force):
        return ()
    size = await files.size(tar)
    with _Shown(path, size) as shown:
        found = await stream_index(files, tar, size, shown)
    return list(_written(target, str(tar), path.rsplit("/", 1)[-1], size, found))


def _files(data: Path | None) -> "AbstractAsyncContextManager[Files]":
    from p2pcap.project.records import FetchRules
    from p2pcap.sources.open_files import Access, open_files

    return open_files(data, Access(FetchRules(), trusted=True))


def _path_of(tar: "Location") -> str:
    """Where below the output folder a tar would lie: by its path in its repository, or its name on the web."""
    from urllib.parse import unquote, urlsplit

    from p2pcap.sources.locations import WebFile
    from p2pcap.sources.tar_walk import safe_name

    path = unquote(urlsplit(tar.url).path).rsplit("/", 1)[-1] if isinstance(tar, WebFile) else tar.path
    if not safe_name(path):
        raise ConfigError("It has no name that an index could be called by. Save it under another one.")
    return path


def _kept(target: Path, force: bool) -> bool:
    if force or not target.exists():
        return False
    say(f"{target} is there already; --force makes it anew")
    return True


def _written(target: Path, tar: str, name: str, size: int, found: "Contents") -> Iterator[str]:
    """Write the index, say what is in it, and yield what is wrong with the tar."""
    from p2pcap.sources.tar_index import encode_index

    if not found.members and size not in EMPTY:
        yield f"{tar} holds no files. Check that it is a tar, and not empty."
        return
    _write(target, encode_index(name, size, found.members))
    for line in _told(target, found):
        say(line)
    if found.cut:
        yield f"{tar} has {found.cut}. Its index has the {len(found.members)} files before that; get the tar anew."


def _told(target: Path, found: "Contents") -> Iterator[str]:
    from p2pcap.sources.tar_samples import pictures

    images = [picture.member for picture in pictures(found.members, with_said=False)]
    yield f"wrote {target}: {len(found.members)} files, {len(images)} of them images"
    if found.left_out:
        what = ", ".join(f"{count} {reason}" for reason, count in sorted(found.left_out.items()))
        yield f"left out of {target}: {what}"
    if not images:
        return
    between = [member for member in found.members if images[0].offset <= member.offset < images[-1].end]
    others = sum(member.length for member in between) - sum(image.length for image in images)
    if others > OTHERS * (total := images[-1].end - images[0].offset):
        yield f"between its images, {100 * others // total} % are other files; volunteers will fetch those too"


def _write(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}. Choose another place: --output.") from error


@dataclass
class _Shown:
    """How far a tar is, on one line of a terminal that is wiped at the end."""

    name: str
    size: int
    _next: float = 0.0
    _there: bool = False

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *_: object) -> None:
        if self._there:
            progress("")

    def __call__(self, done: int) -> None:
        """`done` bytes are behind."""
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next, self._there = time.monotonic() + SHOW_EVERY, True
            progress(f"{clean(self.name)[-60:]}: {100 * done // self.size} %")
