"""`--project FILE|URL`: the project as a file, so that a volunteer begins before any peer answers.

Always holds: what was fetched is checked against the ticket's hash before anything is done with it, and is as long as
a project may be at most.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from p2pcap.errors import ConfigError
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import Ticket

if TYPE_CHECKING:
    from p2pcap.node.options import Seed

WEB = ("http://", "https://")

FETCHED = "project.p2pcap"
"""The file that was fetched, in the node's folder: its item lists are read from it while the node starts."""

MAX_BYTES = 16 * 1024**3
FETCH_WITHIN = 3_600.0


def project_seed(project: str | None, paths: NodePaths, ticket: Ticket) -> "Seed | None":
    """What the file brings; None when none is named. Raises ConfigError, SourceError, UntrustedError."""
    if project is None:
        return None
    from p2pcap.node.bundle import read_bundle

    path = _fetched(project, paths) if project.lower().startswith(WEB) else Path(project).expanduser()
    return read_bundle(path, ticket.root)


def _fetched(url: str, paths: NodePaths) -> Path:
    """The file at the address, in the node's folder."""
    import trio

    from p2pcap.node.run import first_error

    paths.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = paths.directory / FETCHED
    try:
        trio.run(_fetch, url, path)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    return path


async def _fetch(url: str, path: Path) -> None:
    import trio

    from p2pcap.project.records import FetchRules
    from p2pcap.sources.locations import parse
    from p2pcap.sources.open_files import Access, open_files

    with trio.move_on_after(FETCH_WITHIN) as scope:
        async with open_files(None, Access(FetchRules(), trusted=True)) as files:
            location = parse(url)
            size = await files.size(location)
            if size > MAX_BYTES:
                raise ConfigError(f"{url} has {size} bytes, more than any project. Ask the maintainer for its address.")
            with path.open("wb") as file:
                await files.save(location, 0, size, file)
    if scope.cancelled_caught:
        raise ConfigError(f"{url} did not come in {FETCH_WITHIN / 60:.0f} minutes. Download it, and name the file.")
