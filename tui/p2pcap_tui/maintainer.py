"""The maintainer's folder, where this machine holds it: found beside the node or in the current folder.

Nothing in it is read but names, and which project was signed there. What takes keys or reads images is a command's
business, run as a program of its own. Always holds: a folder of another project is not taken for this one's.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from p2pcap.node.snapshot import NodeSnapshot
from p2pcap_tui.project_words import Folder

FILE = "project.yaml"
MAX_MANIFEST = 65_536
"""Bytes of a signed manifest at most; a larger file is none."""

MAX_SAID = 65_536
"""Bytes of a command's output that are kept."""

DIFF_WITHIN = 600.0
"""Seconds in which `p2pcap project diff` looks at every image."""


def folder_of(snapshot: NodeSnapshot, current: Path) -> Folder | None:
    """The folder in which this node's project was signed: that around a coordinator's node, or `current`. On a thread:
    it asks the disk."""
    places = [Path(snapshot.node.directory).parent] if snapshot.node.role == "coordinator" else []
    return next(_of_project([*places, current], snapshot.project.id), None)


def _of_project(places: Iterable[Path], project: str) -> Iterator[Folder]:
    for place in places:
        try:
            if (place / FILE).is_file() and _signs(place / "signed" / "manifest.cbor", bytes.fromhex(project)[:8]):
                yield Folder(str(place.absolute()), tuple(path.stem for path in sorted((place / "keys").glob("*.key"))))
        except (OSError, ValueError):
            continue


def _signs(manifest: Path, prefix: bytes) -> bool:
    """Whether a manifest is of the project whose hash begins so: every manifest names it by that."""
    with manifest.open("rb") as file:
        return len(prefix) == 8 and prefix in file.read(MAX_MANIFEST)


async def diff(folder: Folder) -> tuple[str, int]:
    """What `p2pcap project diff` says of the folder, and its exit code. Ended when the asker is cancelled."""
    program = sys.executable, "-P", "-m", "p2pcap", "project", "diff", folder.path  # -P: no modules of this folder
    process = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DIFF_WITHIN):
            said = await _head(process.stdout)
            return said.decode("utf-8", "replace"), await process.wait()
    except TimeoutError:
        return f"It took longer than {DIFF_WITHIN:.0f} s. Run it in a shell.", 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _head(stream: asyncio.StreamReader) -> bytes:
    """The first MAX_SAID bytes, once all has come."""
    said = b""
    while part := await stream.read(MAX_SAID):
        said += part[: MAX_SAID - len(said)]
    return said
