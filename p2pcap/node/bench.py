"""The measure behind `p2pcap bench`: this machine, on a project's own task, with nobody else taking part.

What a stopped node's folder lacks of project, model and pictures is fetched first, as a guest of the swarm. The measure
itself is made without any connection: nothing is claimed, nothing published.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from p2pcap.errors import ConfigError, Unreachable
from p2pcap.ledger.state import Ledger
from p2pcap.node.bottleneck import Measured
from p2pcap.node.engine_plan import check_task
from p2pcap.node.engines import Engines
from p2pcap.node.fetching import Fetching
from p2pcap.node.guest import Visit, visit
from p2pcap.node.joining import acquire_project, keep_project
from p2pcap.node.logs import log_to
from p2pcap.node.measure import measure
from p2pcap.node.models import Blob, model_directory
from p2pcap.node.options import EngineOptions
from p2pcap.node.pictures import Picture, from_peers, in_cache, in_folder
from p2pcap.node.restart import stored_project
from p2pcap.node.run import first_error
from p2pcap.paths import NodePaths, running_node
from p2pcap.project.opened import Project
from p2pcap.project.ticket import Ticket
from p2pcap.store.database import reading
from p2pcap.store.reads import load

PEER_SECONDS = 60.0
"""Seconds in which peers must have handed over project and model. A small model takes a few; a large one comes from the
Hub, which has its own time."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchOptions:
    """What is measured. `images`: a folder of the user's own pictures; `model`: a copy of the project's model."""

    paths: NodePaths
    ticket: Ticket
    engine: EngineOptions
    seconds: float
    images: Path | None = None
    model: Path | None = None
    peers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """What was measured, and on what; `pictures` is how many different ones."""

    project: Project
    pictures: int
    measured: Measured


def run_bench(options: BenchOptions, say: Say) -> Bench:
    """Measure. `say` gets a line for people now and then.

    Raises KeyboardInterrupt when a signal ended it, and the P2pcapError that did.
    """
    try:
        found = trio.run(_run, options, say)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    if found is None:
        raise KeyboardInterrupt
    return found


async def _run(options: BenchOptions, say: Say) -> Bench | None:
    """None when a signal ended it."""
    found = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey_signals, nursery.cancel_scope)
        found = await _bench(options, say)
        nursery.cancel_scope.cancel()
    return found


async def _obey_signals(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        await anext(signals)
        scope.cancel()


async def _bench(options: BenchOptions, say: Say) -> Bench:
    _check_stopped(options.paths)
    pictures: Sequence[Picture] = ()
    if options.images is not None:
        pictures = await trio.to_thread.run_sync(in_folder, options.images)
    log_to(options.paths.log)
    project = await trio.to_thread.run_sync(stored, options.paths, options.ticket)
    if project is not None and not pictures:
        pictures = await trio.to_thread.run_sync(in_cache, options.paths)
    model = await _model_here(options, project, say) if project is not None else None
    if project is None or model is None or not pictures:
        say("fetching what is not here from the project's peers")
        project, model, pictures = await _fetched(options, project, pictures, say)
    measured = await _measured(options, project, model, pictures, say)
    return Bench(project, len(pictures), measured)


def _check_stopped(paths: NodePaths) -> None:
    if running_node(paths.directory) is not None:
        raise ConfigError(
            f"The node in {paths.directory} runs, and would share this machine with the measure. Stop it first: "
            "p2pcap stop"
        )


def stored(paths: NodePaths, ticket: Ticket) -> Project | None:
    """The ticket's project as the folder's database has it, or None. Raises StoreError, UntrustedError."""
    if not paths.database.is_file():
        return None
    with reading(paths.database) as readers, readers.lend() as cursor:
        return stored_project(load(cursor), ticket.root)


class _NotHereError(Exception):
    """A file of the model would have to come from a peer."""


async def _model_here(options: BenchOptions, project: Project, say: Say) -> Path | None:
    """The model's directory, without asking any peer; None when a peer is to be asked. Raises ModelError."""

    async def blob(hash_: bytes, length: int) -> bytes:
        raise _NotHereError

    try:
        return await _model(options, project, blob, say)
    except _NotHereError:
        return None


async def _model(options: BenchOptions, project: Project, blob: Blob, say: Say) -> Path:
    """The model's directory; servers elsewhere have their own. Raises ModelError, EngineStartError."""
    model, engine = project.stages[0].task.model, options.engine
    check_task(project.stages[0].task, engine)
    if engine.kind == "openai":
        return options.paths.directory
    code = model.name in engine.remote_code
    return await model_directory(model, options.model, options.paths.models, blob, code=code, say=say)


async def _fetched(
    options: BenchOptions, project: Project | None, pictures: Sequence[Picture], say: Say
) -> tuple[Project, Path, Sequence[Picture]]:
    """Project, model and pictures, where they are not here, from peers. Raises P2pcapErrors of many kinds."""
    paths, ticket = options.paths, options.ticket
    async with visit(ticket, paths, options.peers) as guest:
        if project is None:
            with _patience("the project"):
                project = await acquire_project(guest.swarm, ticket, guest.peers_changed, say)
            await keep_project(guest.store, project, ticket, paths.ticket, time.time())
        say(f"project {project.title}: {project.images} images")
        model = await _fetched_model(options, guest, project, say)
        if not pictures:
            say("fetching some of its images")
            pictures = await from_peers(guest, project, paths)
    if not pictures:
        raise ConfigError("None of the project's images can be had now. Name a folder of your own with --images.")
    return project, model, pictures


async def _fetched_model(options: BenchOptions, guest: Visit, project: Project, say: Say) -> Path:
    fetching = Fetching(Ledger(project), guest.store, guest.swarm, guest.peers_changed)

    async def blob(hash_: bytes, length: int) -> bytes:
        with _patience("the model's files"):
            return await fetching.blob(hash_, length)

    return await _model(options, project, blob, say)


@contextmanager
def _patience(what: str) -> Iterator[None]:
    """Raises Unreachable when the block takes PEER_SECONDS."""
    try:
        with trio.fail_after(PEER_SECONDS):
            yield
    except trio.TooSlowError as error:
        raise Unreachable(
            f"No peer handed over {what} within {PEER_SECONDS:.0f} s. Check that the coordinator runs and that you are "
            "online, or name a peer with --peer."
        ) from error


async def _measured(
    options: BenchOptions, project: Project, model: Path, pictures: Sequence[Picture], say: Say
) -> Measured:
    """Starts the engines, measures them and ends them. Raises ModelError, EngineStartError, ConfigError."""
    engines = Engines(options.engine, options.paths.engine_log, say, lambda: None)
    pool = await engines.open(model, project.stages[0].task)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engines.run)
        await pool.wait_ready()
        say(f"measuring for {options.seconds:.0f} s with {len(pictures)} pictures")
        batch = options.engine.settings.max_num_seqs * len(pool.places)
        measured = await measure(pool, pictures, batch, options.seconds, options.engine.kind == "openai")
        nursery.cancel_scope.cancel()
    return measured
