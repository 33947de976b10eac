"""Bringing what the swarm has in force into a folder: the project, the pages of its chunk table, its item lists.

Who signs elsewhere than last time needs all of it before the next signing can follow it. A guest asks every peer that
answers, so that one that is behind does not decide.

Always holds: a blob is put into the folder only when it has the hash that the project names, and a list only when it
reads as one. Nothing waits longer than PROGRESS_WITHIN for what nobody sends.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import structlog
import trio

from p2pcap.errors import SwarmError, UntrustedError
from p2pcap.node.fetching import BATCH, hash_holds
from p2pcap.node.guest import Visit, visit
from p2pcap.node.joining import fetch_project
from p2pcap.node.logs import log_to
from p2pcap.node.run import first_error
from p2pcap.paths import NodePaths
from p2pcap.project.chunks import PAGE_BYTES, Chunk, open_page
from p2pcap.project.opened import Project, open_list
from p2pcap.project.ticket import Ticket
from p2pcap.swarm.messages import Status

ANSWER_WITHIN = 30.0
"""Seconds in which some peer must hand a project over."""

OTHERS_WITHIN = 5.0
"""Seconds without any news of a newer one, after which what is known is the newest."""

PROGRESS_WITHIN = 30.0
"""Seconds in which one more of the missing blobs must come."""

RETRY = 1.0
"""Seconds until peers are asked again for what they said they have."""

log = structlog.get_logger()


class Folder(Protocol):
    """Where it goes. Its methods are called in a thread, one at a time."""

    def check(self, project: Project) -> None:
        """Raises UntrustedError for a project that does not go with what is here."""
        ...

    def lacks(self, project: Project) -> bool:
        """Whether the project is to be brought."""
        ...

    def has(self, hash_: bytes) -> bool:
        """Whether a blob is here; it stays then."""
        ...

    def blob(self, hash_: bytes) -> bytes:
        """A blob that is here."""
        ...

    def put(self, data: bytes) -> object:
        """Keep a blob."""
        ...


def pull(
    ticket: Ticket, peers: Sequence[str], folder: Folder, log_file: Path, patience: float = ANSWER_WITHIN
) -> tuple[Project, bool]:
    """The newest project of the ticket's swarm, and whether it was brought: all its blobs are in the folder then, but
    for the plan. `peers` are multiaddrs beside the ticket's; `patience` is in seconds.

    Raises SwarmError when no peer answers, or none has a part; UntrustedError when nothing that they have holds; and
    what `folder` raises.
    """
    log_to(log_file)
    try:
        return trio.run(_pull, ticket, peers, folder, patience)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _pull(ticket: Ticket, peers: Sequence[str], folder: Folder, patience: float) -> tuple[Project, bool]:
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as place:
        async with visit(ticket, NodePaths(Path(place)), peers) as guest:
            project = await _newest(guest, ticket, folder, patience)
            wanted = await trio.to_thread.run_sync(folder.lacks, project)
            if wanted:
                await _bring(guest, project, folder)
            return project, wanted


async def _newest(guest: Visit, ticket: Ticket, folder: Folder, patience: float) -> Project:
    """The newest project that verifies, of those that peers say they have."""
    best: Project | None = None
    refused: dict[bytes, UntrustedError] = {}
    with trio.move_on_after(patience):
        while True:
            said = [peer.status for peer in guest.swarm.peers() if peer.status is not None]
            status = _ahead(said, ticket.root, (0, 0) if best is None else best.version, refused.keys())
            if status is None:
                if not await _news(guest, OTHERS_WITHIN) and best is not None:
                    break
                continue
            try:
                found = await fetch_project(guest.swarm, ticket.root, status.manifest)
                if found is None:
                    await _news(guest, RETRY)
                    continue
                await trio.to_thread.run_sync(folder.check, found)
                best = found
            except UntrustedError as error:
                log.warning("project refused", manifest=status.manifest.hex(), reason=str(error))
                refused[status.manifest] = error
    if best is not None:
        return best
    if refused:
        raise next(iter(refused.values()))
    raise SwarmError(
        f"No peer of {ticket.name} handed the project over in {patience:.0f} s. See that one runs, and name it: "
        "--peer MULTIADDR."
    )


def _ahead(said: Sequence[Status], root: bytes, version: tuple[int, int], refused: Collection[bytes]) -> Status | None:
    """The status of who says it has the newest project after `version`."""
    newer = [
        status
        for status in said
        if status.root == root
        and status.manifest_version
        and (status.root_version, status.manifest_version) > version
        and status.manifest not in refused
    ]
    return max(newer, key=lambda status: (status.root_version, status.manifest_version), default=None)


async def _news(guest: Visit, seconds: float) -> bool:
    """Wait until a peer came, went, or told its status; False when none has in these seconds."""
    with trio.move_on_after(seconds) as waiting:
        await guest.peers_changed.wait()
    return not waiting.cancelled_caught


async def _bring(guest: Visit, project: Project, folder: Folder) -> None:
    pages = await trio.to_thread.run_sync(_missing_pages, project, folder)
    await _fetch(guest, folder, pages, lambda hash_, data: open_page(data, hash_), PAGE_BYTES)
    lists = await trio.to_thread.run_sync(_missing_lists, project, folder)
    longest = max((chunk.length for chunk in lists.values()), default=0)
    await _fetch(guest, folder, lists.keys(), lambda hash_, data: open_list(data, lists[hash_]), longest)


def _missing_pages(project: Project, folder: Folder) -> list[bytes]:
    return [hash_ for hash_ in project.plan.chunks.pages if not folder.has(hash_)]


def _missing_lists(project: Project, folder: Folder) -> dict[bytes, Chunk]:
    """The chunks whose item lists are not there, by the list's hash."""
    return {chunk.items: chunk for chunk in project.chunks(folder.blob) if not folder.has(chunk.items)}


async def _fetch(
    guest: Visit, folder: Folder, hashes: Collection[bytes], check: Callable[[bytes, bytes], object], cap: int
) -> None:
    """Put the blobs with these hashes into the folder. Raises SwarmError when nobody has one of them."""
    missing, deadline = dict.fromkeys(hashes), trio.current_time() + PROGRESS_WITHIN
    while missing:
        before = len(missing)
        for wanted in _batches(list(missing), BATCH):
            for hash_ in await _fetch_batch(guest, folder, wanted, check, cap):
                del missing[hash_]
        if len(missing) < before:
            deadline = trio.current_time() + PROGRESS_WITHIN
        elif trio.current_time() < deadline:
            await _news(guest, RETRY)
        else:
            raise SwarmError(
                f"No peer that answers has {len(missing)} of the lists of images. Name one that has them with --peer, "
                "such as a seeder or the coordinator that ran last; nothing was changed here."
            )


async def _fetch_batch(
    guest: Visit, folder: Folder, wanted: Sequence[bytes], check: Callable[[bytes, bytes], object], cap: int
) -> list[bytes]:
    """Those that came."""
    came: list[bytes] = []
    with trio.move_on_after(PROGRESS_WITHIN):
        async with aclosing(guest.swarm.fetch("blob", wanted, None, hash_holds, cap)) as arriving:
            async for hash_, data in arriving:
                await trio.to_thread.run_sync(check, hash_, data)
                await trio.to_thread.run_sync(folder.put, data)
                came.append(hash_)
    return came


def _batches(hashes: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """The hashes in their order, `size` at a time."""
    return (hashes[start : start + size] for start in range(0, len(hashes), size))
