"""A newer manifest: heard of, fetched, checked, made durable, adopted, told; and every reason not to."""

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger.fork import fork_of
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.records import Claim
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.following import HINTS, Following, manifest_in
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions, Seed
from p2pcap.paths import NodePaths
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.opened import Project, open_project
from p2pcap.project.records import PAGE, FormerKey, Manifest, Plan, Policy, Role, Roles, Root, RootChain, Stage
from p2pcap.project.roots import root_hash, write_chain
from p2pcap.project.ticket import Ticket
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject
from p2pcap.swarm.messages import Status
from tests.makers import (
    COORDINATOR,
    EVE,
    FOREVER,
    NOW,
    ROOT_KEY,
    TASK,
    chunks_of,
    claim_record,
    make_project,
    manifest_of,
    root_of,
    signed,
)

MADE = make_project((128, 100))
FIRST = MADE.project
AGAIN = msgspec.structs.replace(TASK, prompts=(msgspec.structs.replace(TASK.prompts[0], text="What else?"),))
NEW_KEY = Identity.from_seed(b"n" * 32)


def plan_with(**changes: Any) -> Plan:
    """A plan that asks another question and keeps the task that was."""
    changed = msgspec.structs.replace(FIRST.plan, stages=(Stage("caption", AGAIN),), former=(TASK,))
    return msgspec.structs.replace(changed, **changes)


SECOND = signed(plan_with(), version=2)
THIRD = signed(plan_with(policy=Policy(attempts=5)), version=3)


def rotated(*former: FormerKey, **changes: Any) -> Project:
    """The project under a root that names another coordinator, with such changes of its plan."""
    one = root_of()
    keys = (ROOT_KEY.public, NEW_KEY.public)
    root = Root("Shapes", 2, NOW, FOREVER, keys, Roles(Role((0,)), Role((1,))), former, one.payload_hash)
    chain = write_chain([[one], [seal(ROOT_KEY, "root", root)]])
    named = RootChain(2, hashlib.sha256(chain).digest(), len(chain))
    data = encode(plan_with(**changes))
    length, hash_ = len(data), hashlib.sha256(data).digest()
    said = msgspec.structs.replace(SECOND.manifest, version=1, roots=named, plan=hash_, length=length)
    return open_project(one, seal(NEW_KEY, "manifest", said), data, one.payload_hash, chain)


@dataclass
class Peers:
    """A swarm with one peer that hands over `held`; `told` are statements published, `asked` the hashes asked for."""

    held: dict[bytes, bytes] = field(default_factory=dict)
    told: list[bytes] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    statuses: int = 0
    news: Change = field(default_factory=Change)

    def has(self, *projects: Project) -> None:
        for project in projects:
            manifest = project.manifest_envelope
            self.held |= {project.hash: project.root_envelope.data, manifest.payload_hash: manifest.data}
            self.held |= {project.manifest.plan: project.plan_data}
            self.held |= {hashlib.sha256(project.roots_data).digest(): project.roots_data}

    def peers(self) -> list[Any]:
        return [SimpleNamespace(peer_id="peer")]

    async def status(self, peer: str) -> None:
        self.statuses += 1
        self.news.tell()

    async def publish(self, topic: str, data: bytes) -> None:
        self.told.append(data)

    async def fetch(
        self, kind: str, wanted: Sequence[bytes], peers: None, verify: Callable[[bytes, bytes], bool], cap: int
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        self.asked += wanted
        await trio.lowlevel.checkpoint()
        for hash_ in wanted:
            data = self.held.get(hash_)
            if data is not None and len(data) <= cap and verify(hash_, data):
                yield hash_, data


@dataclass
class Place:
    following: Following
    ledger: Ledger
    store: Store
    peers: Peers
    accused: list[tuple[Envelope, Envelope, int]]
    said: list[str]
    news: Change

    async def has(self, version: tuple[int, int]) -> None:
        """Wait until this version has been adopted, and told."""
        with trio.fail_after(10):
            while self.ledger.project.version != version or not self.peers.told:
                await self.news.wait()

    async def refuses(self, why: str) -> None:
        """Wait until something was refused for that reason."""
        with trio.fail_after(10):
            while not any(why in line for line in self.said):
                await self.news.wait()

    async def idle(self) -> None:
        """Wait until what was heard of has been looked at; not for the disk."""
        await trio.testing.wait_all_tasks_blocked()

    def status(self, project: Project) -> None:
        root, manifest = project.version
        digest = bytes(32)
        said = Status(
            project=project.m, root=project.hash, root_version=root, manifest_version=manifest,
            manifest=project.manifest_envelope.payload_hash, count=0, digest=digest,
        )  # fmt: skip
        self.following.on_status("peer", said)


def run(folder: Path, test: Callable[[Place], Awaitable[None]]) -> None:
    @asynccontextmanager
    async def place() -> AsyncGenerator[Place, None]:
        ledger, store, peers = Ledger(FIRST), Store.open(folder / "ledger.duckdb"), Peers()
        accused: list[tuple[Envelope, Envelope, int]] = []
        said: list[str] = []
        news = peers.news = Change()

        def say(line: str) -> None:
            said.append(line)
            news.tell()

        following = Following(
            ledger, store, cast(Any, peers), news, lambda: float(NOW), say,
            lambda one, other, number: accused.append((one, other, number)),
        )  # fmt: skip
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(following.run)
                yield Place(following, ledger, store, peers, accused, said, news)
                nursery.cancel_scope.cancel()
        finally:
            await store.close()

    async def main() -> None:
        async with place() as here:
            await test(here)

    trio.run(main)


def test_a_gossiped_manifest_is_relayed_fetched_stored_adopted_and_told(tmp_path: Path) -> None:
    async def test(here: Place) -> None:
        here.peers.has(SECOND)
        assert here.following.judge(SECOND.manifest_envelope).verdict is Verdict.ACCEPT
        await here.has((1, 2))
        await here.idle()
        assert set(here.ledger.works) == {TASK.tid, AGAIN.tid}
        assert [work.tid for work in here.ledger.open_works] == [AGAIN.tid]
        loaded = await here.store.load()
        assert (loaded.manifest, loaded.plan) == (SECOND.manifest_envelope.data, SECOND.plan_data)
        assert here.peers.told == [SECOND.manifest_envelope.data]
        assert here.peers.statuses == 1

    run(tmp_path, test)


def test_what_was_heard_of_twice_is_adopted_once_and_the_newest_first(tmp_path: Path) -> None:
    async def test(here: Place) -> None:
        here.peers.has(SECOND, THIRD)
        for project in (SECOND, THIRD, SECOND):
            here.following.judge(project.manifest_envelope)
        await here.has((1, 3))
        assert here.peers.told == [THIRD.manifest_envelope.data]
        assert here.following.judge(SECOND.manifest_envelope).verdict is Verdict.IGNORE

    run(tmp_path, test)


def test_a_peer_s_status_is_enough(tmp_path: Path) -> None:
    async def test(here: Place) -> None:
        here.peers.has(SECOND)
        here.status(SECOND)
        await here.has((1, 2))
        asked = len(here.peers.asked)
        here.status(SECOND)
        here.status(FIRST)
        await here.idle()
        assert len(here.peers.asked) == asked, "nothing newer was named"

    run(tmp_path, test)


def test_what_nobody_has_yet_is_asked_for_when_it_is_named_again(tmp_path: Path) -> None:
    async def test(here: Place) -> None:
        here.status(SECOND)
        await here.idle()
        assert here.ledger.project is FIRST
        here.peers.has(SECOND)
        here.status(SECOND)
        await here.has((1, 2))

    run(tmp_path, test)


def test_a_stranger_s_manifest_goes_no_further(tmp_path: Path) -> None:
    forged = seal(EVE, "manifest", SECOND.manifest)
    altered = Envelope("manifest", SECOND.manifest_envelope.payload, COORDINATOR.public, b"s" * 64)
    other = make_project((128,), "Other").project.manifest_envelope

    async def test(here: Place) -> None:
        for envelope in (forged, altered, other):
            assert here.following.judge(envelope).verdict is Verdict.REJECT
        await here.idle()
        assert not here.peers.asked

    run(tmp_path, test)


# rows of the chunk table that move into a page

MANY = [Chunk(5, bytes([number % 256]) * 32, 5) for number in range(PAGE + 5)]
TURNED = [*MANY[1::-1], *MANY[2:]]


def grown(chunks: Sequence[Chunk], version: int) -> tuple[Project, bytes]:
    """The project with these chunks, and the page that the first of them make, empty where they are too few."""
    pages = [b""]
    return signed(plan_with(chunks=table_of(chunks, pages.append)), version=version), pages[-1]


def test_the_page_that_shows_that_images_stay_is_fetched_and_kept_for_others(tmp_path: Path) -> None:
    (before, _), (after, page) = grown(MANY[:1_000], 2), grown(MANY, 3)

    async def test(here: Place) -> None:
        here.ledger.adopt(before)
        here.peers.has(after)
        here.status(after)
        await here.idle()
        assert here.ledger.project is before, "nobody had the page"
        here.peers.held[after.plan.chunks.pages[0]] = page
        here.status(after)
        await here.has((1, 3))
        assert await here.store.blob(after.plan.chunks.pages[0]) == page

    run(tmp_path, test)


def test_a_page_that_moves_images_is_refused(tmp_path: Path) -> None:
    (before, _), (after, page) = grown(MANY[:1_000], 2), grown(TURNED, 3)

    async def test(here: Place) -> None:
        here.ledger.adopt(before)
        here.peers.has(after)
        here.peers.held[after.plan.chunks.pages[0]] = page
        here.status(after)
        await here.refuses("renumbers images")
        assert here.ledger.project is before
        assert await here.store.blob(after.plan.chunks.pages[0]) is None

    run(tmp_path, test)


SHORTER = signed(plan_with(chunks=table_of(chunks_of(FIRST)[:1])), version=2)
SWAPPED = signed(plan_with(chunks=table_of(chunks_of(FIRST)[::-1])), version=2)
FORGETFUL = signed(plan_with(former=()), version=2)


@pytest.mark.parametrize(
    ("project", "why"), [(SHORTER, "renumbers"), (SWAPPED, "renumbers"), (FORGETFUL, "forgets a task")]
)
def test_what_would_move_captions_is_refused_once(tmp_path: Path, project: Project, why: str) -> None:
    async def test(here: Place) -> None:
        here.peers.has(project)
        here.following.judge(project.manifest_envelope)
        await here.refuses(why)
        here.following.judge(project.manifest_envelope)
        await here.idle()
        assert here.ledger.project is FIRST
        assert (await here.store.load()).manifest is None
        assert len([line for line in here.said if why in line]) == 1
        assert not here.peers.told

    run(tmp_path, test)


def test_images_are_added_at_the_end(tmp_path: Path) -> None:
    more = make_project((128, 100, 64)).project
    grown = signed(msgspec.structs.replace(more.plan, title="Shapes"), version=2)

    async def test(here: Place) -> None:
        here.peers.has(grown)
        here.following.judge(grown.manifest_envelope)
        await here.has((1, 2))
        assert here.ledger.works[TASK.tid].unfinished == [0, 1, 2]

    run(tmp_path, test)


def test_two_manifests_of_one_version_are_a_fork_and_stop_the_work(tmp_path: Path) -> None:
    rival = signed(plan_with(description="another"), version=2)

    async def test(here: Place) -> None:
        here.peers.has(SECOND, rival)
        here.following.judge(SECOND.manifest_envelope)
        await here.has((1, 2))
        assert here.following.judge(rival.manifest_envelope).verdict is Verdict.IGNORE
        ((one, other, number),) = here.accused
        assert (one, other, number) == (SECOND.manifest_envelope, rival.manifest_envelope, 2)
        assert here.ledger.open_works
        fork = fork_of(one, other, number, FIRST.m, NOW)
        here.ledger.add(seal(EVE, "fork", fork), fork)
        assert not here.ledger.open_works
        here.peers.has(THIRD)
        here.following.judge(THIRD.manifest_envelope)
        await here.has((1, 3))
        assert [work.tid for work in here.ledger.open_works] == [AGAIN.tid]

    run(tmp_path, test)


def test_two_coordinators_that_meet_late_are_found_out(tmp_path: Path) -> None:
    """Each has told its own swarm, and a manifest is gossiped once: what they have they say in their statuses."""
    rival = signed(plan_with(description="another"), version=2)

    async def test(here: Place) -> None:
        here.peers.has(SECOND, rival)
        here.following.judge(SECOND.manifest_envelope)
        await here.has((1, 2))
        here.status(rival)
        await here.idle()
        assert here.accused == [(SECOND.manifest_envelope, rival.manifest_envelope, 2)]
        fork = fork_of(SECOND.manifest_envelope, rival.manifest_envelope, 2, FIRST.m, NOW)
        here.ledger.add(seal(EVE, "fork", fork), fork)
        asked = len(here.peers.asked)
        here.status(rival)
        await here.idle()
        assert len(here.peers.asked) == asked, "it is known"
        assert here.ledger.project == SECOND

    run(tmp_path, test)


def test_a_liar_who_names_another_manifest_accuses_nobody(tmp_path: Path) -> None:
    async def test(here: Place) -> None:
        here.status(signed_as(msgspec.structs.replace(FIRST.manifest, length=1)))
        await here.idle()
        assert here.peers.asked
        assert not here.accused

    run(tmp_path, test)


def test_who_knows_of_a_fork_follows_neither(tmp_path: Path) -> None:
    rival = signed(plan_with(description="another"), version=2)

    async def test(here: Place) -> None:
        here.peers.has(SECOND, rival)
        fork = fork_of(SECOND.manifest_envelope, rival.manifest_envelope, 2, FIRST.m, NOW)
        here.ledger.add(seal(EVE, "fork", fork), fork)
        for project in (SECOND, rival):
            here.status(project)
            await here.refuses("contradicts")
            here.said.clear()
        assert here.ledger.project is FIRST
        assert [work.tid for work in here.ledger.open_works] == [TASK.tid], "the version before is worked on"

    run(tmp_path, test)


def test_another_root_is_believed_only_with_its_chain(tmp_path: Path) -> None:
    project = rotated()

    async def test(here: Place) -> None:
        here.peers.has(project)
        assert here.following.judge(project.manifest_envelope).verdict is Verdict.IGNORE, "it is not relayed unseen"
        with trio.fail_after(10):
            await here.following.renewed.wait()
        found = here.following.successor
        assert found is not None
        assert (found.version, found.coordinators) == ((2, 1), frozenset({NEW_KEY.public}))
        assert found.version > THIRD.version, "a new root overtakes whatever number the old key has used"

    run(tmp_path, test)


THIEF = Identity.from_seed(b"t" * 32)


def rooted(*later: Root) -> Project:
    """The project under the last of these roots; each is signed by the first root's key and its own."""
    owners = {identity.public: identity for identity in (ROOT_KEY, NEW_KEY, THIEF, COORDINATOR)}
    chain = [[root_of()], *([seal(ROOT_KEY, "root", root), *_others(root, owners)] for root in later)]
    data = write_chain(chain)
    named = RootChain(len(chain), hashlib.sha256(data).digest(), len(data))
    helm = owners[later[-1].keys[later[-1].roles.coordinator.keys[0]]]
    said = msgspec.structs.replace(SECOND.manifest, roots=named)
    return open_project(root_of(), seal(helm, "manifest", said), SECOND.plan_data, root_of().payload_hash, data)


def _others(root: Root, owners: dict[bytes, Identity]) -> list[Envelope]:
    top = [root.keys[index] for index in root.roles.root.keys]
    return [seal(owners[key], "root", root) for key in top if key != ROOT_KEY.public]


def root_after(before: Root | None, top: tuple[Identity, ...], helm: Identity) -> Root:
    """The root that follows `before`, or the first one."""
    keys = tuple(dict.fromkeys(identity.public for identity in (*top, helm)))
    roles = Roles(Role(tuple(range(len(top)))), Role((keys.index(helm.public),)))
    prev = root_of().payload_hash if before is None else root_hash(before)
    version = 2 if before is None else before.version + 1
    return Root("Shapes", version, NOW, FOREVER, keys, roles, UNSET, prev)


def test_a_stolen_root_key_that_was_replaced_leads_nowhere(tmp_path: Path) -> None:
    """Whoever has the first root's key can still sign a second root, and a third one after that."""
    ours = root_after(None, (NEW_KEY,), COORDINATOR)
    his = root_after(None, (THIEF, ROOT_KEY), THIEF)
    further = root_after(his, (THIEF, ROOT_KEY), THIEF)
    here_is, stolen = rooted(ours), rooted(his, further)

    async def test(here: Place) -> None:
        here.ledger.adopt(here_is)
        here.peers.has(here_is, stolen)
        assert stolen.version > here_is.version
        here.status(stolen)
        await here.refuses("another root")
        assert here.following.successor is None
        assert here.ledger.project is here_is

    run(tmp_path, test)


def test_nor_does_it_as_a_file_that_a_node_is_started_with(tmp_path: Path) -> None:
    ours, his = root_after(None, (NEW_KEY,), COORDINATOR), root_after(None, (THIEF, ROOT_KEY), THIEF)
    stolen = rooted(his, root_after(his, (THIEF, ROOT_KEY), THIEF))

    async def main() -> None:
        store = Store.open(NodePaths(tmp_path).database)
        await store.commit(PutProject(rooted(ours), NOW))
        await store.close()
        options = NodeOptions(tmp_path, "observer", Ticket("Shapes", FIRST.hash), seed=Seed(stolen, {}, {}))
        node = Node(options, lambda line: None)
        try:
            with pytest.raises(UntrustedError, match="another root"):
                await node._project(cast(Any, None))
        finally:
            await node.store.close()

    trio.run(main)


def test_another_root_of_the_version_in_force_is_not_followed(tmp_path: Path) -> None:
    """Two people have replaced the same root, each in a folder of his own."""
    mine, other = rooted(root_after(None, (ROOT_KEY,), NEW_KEY)), rooted(root_after(None, (ROOT_KEY,), THIEF))
    newer = msgspec.structs.replace(other.manifest, version=9)
    ahead = open_project(
        root_of(), seal(THIEF, "manifest", newer), other.plan_data, root_of().payload_hash, other.roots_data
    )

    async def test(here: Place) -> None:
        here.ledger.adopt(mine)
        here.peers.has(mine, ahead)
        here.status(ahead)
        await here.refuses("another root")
        assert here.ledger.project is mine

    run(tmp_path, test)


def test_a_key_that_was_replaced_ends_this_life_in_the_project(tmp_path: Path) -> None:
    project = rotated(FormerKey(COORDINATOR.public, 0, bytes(32)))

    async def test(here: Place) -> None:
        here.peers.has(project)
        here.status(project)
        with trio.fail_after(10):
            await here.following.renewed.wait()
        assert here.following.successor == project
        assert here.ledger.project is FIRST, "all of it changes in one step, when the node judges anew"
        assert (await here.store.load()).manifest is None

    run(tmp_path, test)


def test_another_root_takes_back_what_a_thief_has_added(tmp_path: Path) -> None:
    project = rotated(FormerKey(COORDINATOR.public, 0, bytes(32)), chunks=table_of(chunks_of(FIRST)[:1]), former=())

    async def test(here: Place) -> None:
        here.peers.has(project)
        here.status(project)
        with trio.fail_after(10):
            await here.following.renewed.wait()
        assert here.following.successor == project

    run(tmp_path, test)


def test_talk_of_peers_keeps_nobody_from_what_is_signed(tmp_path: Path) -> None:
    async def test(here: Place) -> None:
        here.peers.has(SECOND)
        here.following.judge(SECOND.manifest_envelope)
        for number in range(3 * HINTS):
            liar = msgspec.structs.replace(SECOND.manifest, version=1_000 + number)
            here.status(signed_as(liar))
        assert len(here.following._hints) == HINTS
        here.following.judge(SECOND.manifest_envelope)
        await here.has((1, 2))
        assert here.peers.asked.index(SECOND.manifest_envelope.payload_hash) <= 1

    run(tmp_path, test)


def signed_as(manifest: Manifest) -> Project:
    """What a status may name, be it true or not."""
    return cast(Project, SimpleNamespace(
        m=FIRST.m, hash=FIRST.hash, version=(1, manifest.version), manifest_envelope=seal(EVE, "manifest", manifest)
    ))  # fmt: skip


def test_a_manifest_is_known_by_its_first_bytes() -> None:
    assert manifest_in(SECOND.manifest_envelope.data) == SECOND.manifest_envelope
    claim: Claim = claim_record(FIRST, {0: 1})
    for data in (seal(EVE, "claim", claim).data, b"", SECOND.manifest_envelope.data[:40], b"\x85\x01\x68manifest"):
        assert manifest_in(data) is None


def test_a_manifest_for_the_first_root_carries_no_chain() -> None:
    assert manifest_of(root_of(), b"plan").payload == encode(msgspec.structs.replace(
        FIRST.manifest, plan=hashlib.sha256(b"plan").digest(), length=4
    ))  # fmt: skip
