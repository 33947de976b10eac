"""A node that has its project: ledger, intake, fetching and bodies, and for a volunteer engine and worker.

Always holds: a member's project is verified and durable, and a volunteer's own grant is in the ledger before it works.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
import trio

from p2pcap.audit.auditing import Auditing
from p2pcap.audit.watching import Watch
from p2pcap.engine.pool import EnginePool
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import ModelError, SwarmError
from p2pcap.identity import Identity
from p2pcap.ledger.grants import own_grant
from p2pcap.ledger.judgement import Judgement
from p2pcap.ledger.records import Profile, Row
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.node.auditing import AuditStation, Company, keep_looking, own_secret
from p2pcap.node.bodies import Bodies
from p2pcap.node.change import Change
from p2pcap.node.checkpoints import Checkpoints
from p2pcap.node.enforcing import Enforcing
from p2pcap.node.engines import Engines
from p2pcap.node.evidence import EvidenceKeeping
from p2pcap.node.fetching import Fetching
from p2pcap.node.finished import Finished
from p2pcap.node.following import Following, manifest_in
from p2pcap.node.hold import Hold
from p2pcap.node.images import Images
from p2pcap.node.intake import Intake
from p2pcap.node.keeping import Keeping
from p2pcap.node.models import model_directory, patient
from p2pcap.node.options import NodeOptions, Role
from p2pcap.node.pausing import Pausing
from p2pcap.node.reading import Reading, empty
from p2pcap.node.sealing import Sealing
from p2pcap.node.seams import Clock
from p2pcap.node.seeding import check_local
from p2pcap.node.standing_news import StandingNews
from p2pcap.node.station import NodeStation
from p2pcap.node.submitting import Outcome, hand_in, submit
from p2pcap.node.volunteering import Volunteering
from p2pcap.node.warnings import tell, warnings
from p2pcap.paths import NodePaths
from p2pcap.project.task import Model
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.local import LocalImages
from p2pcap.sources.open_files import Access, open_files
from p2pcap.store.reads import Contribution
from p2pcap.store.store import Store
from p2pcap.swarm.messages import Status
from p2pcap.swarm.swarm import Swarm
from p2pcap.worker.worker import Worker

COUNT_EVERY = 1.0
"""Seconds between two counts of who made how much, at least."""

FIRST_CAPTION = 1_000
"""Letters of the first caption that are kept to be shown."""

log = structlog.get_logger()


class Member:
    """The node inside its project. `say` gets one line for people now and then."""

    def __init__(
        self,
        options: NodeOptions,
        identity: Identity,
        store: Store,
        swarm: Swarm,
        ledger: Ledger,
        peers_changed: Change,
        pausing: Pausing,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self.paths = NodePaths(options.directory.absolute())
        self.ledger = ledger
        self.change = Change()
        cache = ImageCache(self.paths.images, options.image_cap)
        self.fetching = Fetching(ledger, store, swarm, peers_changed)
        self.reading = Reading(cache, ledger.project.plan.fetch_rules, self.paths.scratch)
        self.local = self._open_local(options.local_images, cache)
        self.images = Images(swarm, cache, self.local, self.reading, self.fetching.listing, peers_changed)
        kept = options.store, options.store_cap
        self.keeping = Keeping(identity.public, ledger, store, swarm, self.change, clock, say, *kept)
        self.watch = self._watch_of(options.role, identity.public, swarm)
        self.bodies = Bodies(ledger, store, swarm, self.fetching, self.change, clock, self.keeping, self.watch)
        self.intake = Intake(identity, ledger, store, self.change, self.bodies.want, clock)
        self.checkpoints = Checkpoints(ledger, store, swarm, self.fetching, self.intake, self.change)
        self.following = Following(ledger, store, swarm, self.change, clock, say, self.intake.accuse)
        self.auditing: Auditing | None = None
        self.volunteering: Volunteering | None = None
        self.sealing: Sealing | None = None
        self.files: dict[bytes, Path] = dict(options.seed.files) if options.seed else {}
        self.contributions: tuple[Contribution, ...] = ()
        self.failures: tuple[tuple[str, int], ...] = ()
        self.first_caption = ""
        self._options = options
        self._identity = identity
        self._store = store
        self._swarm = swarm
        self._peers_changed = peers_changed
        self._pausing = pausing
        self._clock = clock
        self._say = say
        self._news = StandingNews(identity.public, ledger, say)

    @property
    def engines(self) -> Engines | None:
        """The engines of a volunteer."""
        return self.volunteering.engines if self.volunteering else None

    @property
    def worker(self) -> Worker | None:
        """The worker of a volunteer."""
        return self.volunteering.worker if self.volunteering else None

    @property
    def engine(self) -> EnginePool | None:
        """The engines as one, once it is known which there are."""
        return self.engines.pool if self.engines else None

    @property
    def engine_ready(self) -> bool:
        """Whether an engine takes images, now and for this project."""
        return self.engine is not None and self.engine.state.phase == "ready" and self._pausing.hold is None

    def warnings(self, now: float) -> tuple[str, ...]:
        """What people should ask the maintainer about."""
        return warnings(self.ledger, self._identity.public, self.checkpoints.refused, now)

    def judge(self, data: bytes) -> Judgement:
        """A gossiped statement."""
        manifest = manifest_in(data)
        return self.following.judge(manifest) if manifest is not None else self.intake.judge(data)

    async def submit(self, data: bytes) -> Outcome:
        """Take in a statement that the maintainer hands in, and tell everybody; durable when this returns. Raises
        StoreError."""
        return await submit(self.ledger, self.intake, self._swarm, data, self._clock())

    async def live(self, leave: Callable[[], None]) -> None:
        """Take part until cancelled, or until another root is in force; calls `leave` when there is no more to
        do and the node was told to go then.

        Raises ModelError, EngineStartError, TicketError, StoreError, and ConfigError when a seeder has nothing to seed
        or a server cannot be asked at the address that was given.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.intake.run)
            nursery.start_soon(self.following.run)
            nursery.start_soon(self._follow_manifests)
            nursery.start_soon(self._end_when_renewed, nursery.cancel_scope)
            nursery.start_soon(self.bodies.run)
            nursery.start_soon(self.keeping.run, self.bodies.want_back)
            nursery.start_soon(self._follow_rulings)
            if self._options.outbox is not None:
                nursery.start_soon(hand_in, self._options.outbox, self.submit, self._say)
            nursery.start_soon(self.checkpoints.run)
            nursery.start_soon(EvidenceKeeping(self._identity.public, self.ledger, self._store, self._clock).run)
            nursery.start_soon(self._count)
            nursery.start_soon(tell, self.warnings, self.change, self._clock, self._say)
            if self.local is not None or self._options.role == "volunteer":
                nursery.start_soon(self._read_files)
            for peer in self._swarm.peers():
                self._swarm.sync_soon(peer.peer_id)
            nursery.start_soon(self._finished().run, leave)
            if self._options.seed is not None and self._options.seed.signer is not None:
                self.sealing = self._sealing(self._options.seed.signer)
                nursery.start_soon(self.sealing.run)
                enforcing = Enforcing(
                    self._options.seed.signer, self.ledger, self._swarm, self.intake, self._clock, self._say
                )
                nursery.start_soon(enforcing.run)
            if self._options.role == "seeder":
                nursery.start_soon(self._hold_models)
            if self.watch is not None:
                nursery.start_soon(keep_looking, self.watch, self.ledger, self.intake.found, self.change, self._clock)
            if self._options.role == "volunteer":
                await self._admit_self()
                nursery.start_soon(self._replicate)
                self.volunteering = self._volunteering()
                nursery.start_soon(self._follow_pause)
                await self.volunteering.run()

    async def _follow_rulings(self) -> None:
        """Ask for stored results' bodies: at the start, and when a ruling may have made some wanted again."""
        while True:
            seen = self.intake.ruled.count
            self._news.tell()
            await self.bodies.want_stored()
            if self.intake.ruled.count == seen:
                await self.intake.ruled.wait()

    async def _end_when_renewed(self, life: trio.CancelScope) -> None:
        await self.following.renewed.wait()
        self._say("the maintainer has changed the project's keys: what is here is judged anew")
        await self.finish()
        life.cancel()

    async def _follow_pause(self) -> None:
        """What a pause means beside the work: no image is copied ahead, and peers do not count on the engine."""
        while True:
            seen = self._pausing.changed.count
            self.images.rest(self._pausing.hold is not None)
            self.change.tell()
            await self._ask_statuses()
            if self._pausing.changed.count == seen:
                await self._pausing.changed.wait()

    async def _follow_manifests(self) -> None:
        """What a newer manifest brings beside the ledger's part of it."""
        while True:
            await self.following.changed.wait()
            await self.intake.manifest_changed()
            await self.bodies.want_stored()
            if self.local is not None:
                await self.local.look(range(len(self.ledger.project.counts)))

    async def finish(self) -> None:
        """Publish what is in hand and give the claims back, within FINISH_WITHIN seconds."""
        if self.volunteering is not None:
            await self.volunteering.finish()

    async def _count(self) -> None:
        """Keep the contributors of the snapshot fresh; the database counts them."""
        while True:
            seen = self.change.count
            self.contributions = await self._store.contributions()
            self.failures = await self._store.failures()
            await trio.sleep(COUNT_EVERY)
            if self.change.count == seen:
                await self.change.wait()

    def _sealing(self, signer: Identity) -> Sealing:
        return Sealing(signer, self.ledger, self._store, self._swarm, self.intake, self.checkpoints, self._clock)

    async def _admit_self(self) -> None:
        """Join, or where that was done before, go by the name that was chosen now."""
        me, name, now = self._identity, self._options.name, int(self._clock())
        if not self.ledger.members.is_admitted(me.public):
            ask = partial(own_grant, me, self._options.ticket, self.ledger.project, name, now)
            await self._declare(await trio.to_thread.run_sync(ask))  # a puzzle takes a second
        elif self.ledger.name_of(me.public) != name:
            await self._declare(seal(me, "profile", Profile(self.ledger.project.m, name, "", now)))
        if not self.ledger.members.is_admitted(me.public):
            self._say(
                f"this node is not admitted, and waits until it is: tell the maintainer its key, {me.peer_id}, or ask "
                "for another ticket"
            )

    async def _declare(self, envelope: Envelope | None) -> None:
        if envelope is not None:
            await self.intake.receive([envelope.data])
            await self._swarm.publish("results", envelope.data)

    def _volunteering(self) -> Volunteering:
        options, watch = self._options.engine, self.watch
        assert watch is not None
        self.auditing = Auditing(self._identity, self.ledger, watch, self._audit_station(), self._clock)
        return Volunteering(
            self._identity, self.ledger, options, self.paths.engine_log, self._station, self._model,
            self._tell_statuses, self.auditing.run, watch.is_due, self._hold, self.change, self._clock, self._say,
        )  # fmt: skip

    def _hold(self) -> Hold | None:
        return self._pausing.hold

    def _finished(self) -> Finished:
        me, seams = self._identity.public, (self.change, self._peers_changed, self._ask_statuses, self._say)
        return Finished(self._options, self.paths, me, self.ledger, *seams)

    def _watch_of(self, role: Role, me: bytes, swarm: Swarm) -> Watch | None:
        """What chooses others' captions to check. Raises StoreError."""
        if role != "volunteer":
            return None
        return Watch(me, self.ledger, own_secret(self.paths.audit_secret), Company(me, self.ledger, swarm))

    def _audit_station(self) -> AuditStation:
        seams = self._store, self._swarm, self.fetching, self.images, self.intake, self.change, self._clock
        return AuditStation(self.ledger, *seams, lambda tid: self._station(self.ledger.works[tid]))

    def _station(self, work: Work) -> NodeStation:
        seams = self._store, self._swarm, self.fetching, self.images, self.change, self._clock, self._say
        return NodeStation(self.ledger, work, *seams, self._see)

    def _see(self, rows: Sequence[Row]) -> None:
        """Keep the first caption that was made here, for people."""
        if not self.first_caption:
            self.first_caption = next((row.answers[0].text for row in rows if row.answers), "")[:FIRST_CAPTION]

    async def _model(self, model: Model, code: bool, say: Callable[[str], None]) -> Path:
        """The directory with the model's files; from now on peers get them here too. Raises ModelError."""
        say(f"model {model.name}: getting its files")
        directory = await model_directory(
            model, self._options.model, self.paths.models, patient(self.fetching, self._say), code=code, say=say
        )
        self.files |= {file.hash: directory / file.name for file in model.files}
        return directory

    async def _hold_models(self) -> None:
        """Newcomers need the models' files, if these travel, also while the coordinator is away."""
        held: set[Model] = set()
        while True:
            seen = self.following.changed.count
            for stage in self.ledger.project.stages:
                model = stage.task.model
                if model.files and model not in held:
                    held.add(model)
                    await self._hold_model(model)
            if self.following.changed.count == seen:
                await self.following.changed.wait()

    async def _hold_model(self, model: Model) -> None:
        try:
            await self._model(model, False, self._say)
        except ModelError as error:
            self._say(f"the model's files are not handed out here: {error}")

    async def _tell_statuses(self) -> None:
        await self._ask_statuses()

    def _open_local(self, folder: Path | None, cache: ImageCache) -> LocalImages | None:
        if folder is None:
            return None
        paths, plan = self.paths, self.ledger.project.manifest.plan
        return LocalImages.open(paths.local_images, folder, plan, self.fetching.listing, cache, paths.scratch)

    async def _read_files(self) -> None:
        """Read images from the Hub and the web as the worker asks for them, and from the local folder."""
        folder, project = self._options.local_images, self.ledger.project
        options = self._options
        access = Access(project.plan.fetch_rules, options.private_hosts, follow_symlinks=options.follow_symlinks)
        await trio.to_thread.run_sync(empty, self.paths.scratch)
        async with open_files(folder, access) as files, trio.open_nursery() as nursery:
            nursery.start_soon(self.reading.run, files)
            if self.local is not None:
                looked = trio.Event()
                nursery.start_soon(self.local.run, files, len(project.counts), looked.set)
                await looked.wait()
                await self._tell_found(len(self.local))

    async def _tell_found(self, held: int) -> None:
        project, folder = self.ledger.project, self._options.local_images
        self._say(f"{held} of the project's {project.images} images are in {folder}")
        self.change.tell()
        if not held and self._options.role == "seeder":
            await check_local(len(project.counts), self.fetching.listing)
            self._say("NO IMAGE IS HANDED OUT: start again with the folder that the maintainer signed, or a copy of it")

    async def _replicate(self) -> None:
        order = list(range(len(self.ledger.project.counts)))
        random.shuffle(order)
        await self.images.replicate(order)

    async def _ask_statuses(self) -> list[Status]:
        """Exchange status with every connected peer."""
        statuses = []
        for peer in self._swarm.peers():
            try:
                statuses.append(await self._swarm.status(peer.peer_id))
            except SwarmError as error:
                log.info("no status", peer=peer.peer_id, reason=str(error))
        return statuses
