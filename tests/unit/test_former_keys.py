"""What a key signed while it had its role counts after it left it, as far as it was sealed; and nothing beyond that."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from msgspec import structs

from p2pcap.envelope import Envelope, open_envelope, seal
from p2pcap.errors import RequestFailed
from p2pcap.identity import Identity
from p2pcap.ledger.authority import last_named, vouched
from p2pcap.ledger.checkpoint import Checkpoint, Seal, Stamp
from p2pcap.ledger.fork import fork_of
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.sealing import make
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Judgement, Verdict, validate
from p2pcap.node.checkpoints import Checkpoints
from p2pcap.node.intake import Received
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import FormerKey, Manifest, Root, RootChain
from p2pcap.project.roots import write_chain
from tests.chains import KEYS, after
from tests.makers import ADA, BOB, COORDINATOR, EVE, FOREVER, NOW, ROOT_KEY, make_project, make_result

MADE = make_project((64, 64))
OLD = MADE.project
NEW = KEYS[0]
"""The coordinator after COORDINATOR."""

M, HASH = OLD.m, bytes(range(32))
ONE = b"\1" + bytes(7)
"""The mask of the first item."""

RULINGS = [
    Ban(M, ADA.public, 1, 0, "all", "", (), NOW),
    Void(M, (HASH,), "", (), NOW),
    Redact(M, 0, 0, 8, ONE, "", NOW),
]


def checkpoint_of(number: int, prev: bytes, ledger: Ledger, **changes: object) -> Checkpoint:
    made = make(ledger, [], bytes([number]) * 32, NOW).record
    return structs.replace(made, number=number, prev=prev, **changes)


def chain_of(count: int) -> list[Envelope]:
    """Checkpoints by the old coordinator."""
    ledger, prev, chain = Ledger(OLD), bytes(32), list[Envelope]()
    for number in range(1, count + 1):
        chain.append(seal(COORDINATOR, "checkpoint", checkpoint_of(number, prev, ledger)))
        prev = chain[-1].payload_hash
    return chain


CHAIN = chain_of(4)


def rotated(*former: FormerKey) -> Project:
    """The project under its second root, with NEW as coordinator."""
    second = after(OLD.root, [ROOT_KEY], helm=NEW, former=former)
    blob = write_chain([[OLD.root_envelope], [seal(ROOT_KEY, "root", second)]])
    roots = RootChain(2, hashlib.sha256(blob).digest(), len(blob))
    data = OLD.plan_data
    manifest = Manifest(M, 2, NOW, FOREVER, hashlib.sha256(data).digest(), len(data), roots)
    return open_project(OLD.root_envelope, seal(NEW, "manifest", manifest), data, payload_hash(OLD.root_envelope), blob)


def following(project: Project, chain: Sequence[Envelope]) -> Ledger:
    """A ledger that was handed this chain of checkpoints."""
    ledger = Ledger(project)
    ledger.vouched = vouched(project, chain)
    return ledger


def ledger_at(last: int, *sealed: tuple[int, Envelope]) -> Ledger:
    """A ledger of the rotated project: what the old coordinator signed counts up to checkpoint `last`, and all of CHAIN
    up to it is taken; `sealed` says what each checkpoint seals."""
    hash_ = CHAIN[last - 1].payload_hash if last else bytes(32)
    ledger = following(rotated(FormerKey(COORDINATOR.public, last, hash_)), CHAIN)
    for number in range(1, last + 1):
        ids = [envelope.id for at, envelope in sealed if at == number]
        ledger.seals.take(Seal(number, CHAIN[number - 1].payload_hash, bytes(32), {}), ids)
    return ledger


def judge(ledger: Ledger, envelope: Envelope) -> Judgement:
    return validate(ledger, envelope.data, NOW)


def told(judgement: Judgement) -> tuple[Verdict, str]:
    return judgement.verdict, judgement.reason


LATE = (Verdict.IGNORE, "by a former key, and not sealed in its time")


@pytest.mark.parametrize("ruling", RULINGS, ids=lambda ruling: type(ruling).__name__)
def test_a_former_coordinators_ruling_counts_where_it_was_sealed(ruling: Ban | Void | Redact) -> None:
    envelope = seal(COORDINATOR, type(ruling).__name__.lower(), ruling)
    assert judge(ledger_at(2, (2, envelope)), envelope).verdict is Verdict.ACCEPT
    assert told(judge(ledger_at(2), envelope)) == LATE
    assert told(judge(ledger_at(0), envelope)) == LATE
    by_new, by_nobody = seal(NEW, envelope.kind, ruling), seal(EVE, envelope.kind, ruling)
    assert judge(ledger_at(0), by_new).verdict is Verdict.ACCEPT
    assert told(judge(ledger_at(0), by_nobody)) == (Verdict.REJECT, "not signed by a coordinator")


def test_what_a_later_checkpoint_seals_comes_too_late() -> None:
    """The new coordinator's checkpoint cannot bring back what a thief signed."""
    envelope = seal(COORDINATOR, "ban", RULINGS[0])
    ledger = ledger_at(2)
    ledger.seals.take(Seal(3, bytes(32), bytes(32), {}), [envelope.id])
    assert told(judge(ledger, envelope)) == LATE


def test_a_former_coordinators_signature_is_still_looked_at() -> None:
    envelope = seal(COORDINATOR, "ban", RULINGS[0])
    broken = Envelope(envelope.kind, envelope.payload, envelope.author, bytes(64))
    assert told(judge(ledger_at(2, (1, envelope)), broken)) == (Verdict.REJECT, "bad signature")


def finding_by(verifier: Identity, result: Result) -> tuple[Envelope, Envelope]:
    batch = seal(ADA, "result", result)
    return batch, seal(verifier, "verdict", Finding(M, batch.id, ONE, "bad", "token-difr", b"", NOW))


def test_a_former_verifiers_verdict_counts_where_it_was_sealed() -> None:
    """Where no verifier is named the coordinator is one."""
    result, _ = make_result(OLD, 0, [MADE.row(0, 0)])
    batch, finding = finding_by(COORDINATOR, result)
    sound, bare = ledger_at(1, (1, finding)), ledger_at(1)
    for ledger in (sound, bare):
        ledger.add(batch, result)
    assert judge(sound, finding).verdict is Verdict.ACCEPT
    assert told(judge(bare, finding)) == LATE
    _, by_bob = finding_by(BOB, result)
    assert told(judge(bare, by_bob)) == (Verdict.IGNORE, "unknown author")


def test_a_former_coordinators_stamp_is_worth_nothing() -> None:
    stamp = Stamp(M, 2**52, 1, 1, HASH, 0, bytes(32), NOW, FOREVER)
    assert told(judge(ledger_at(2), seal(COORDINATOR, "stamp", stamp))) == LATE
    assert judge(ledger_at(2), seal(NEW, "stamp", stamp)).verdict is Verdict.ACCEPT


AT_THREE = rotated(FormerKey(COORDINATOR.public, 3, CHAIN[2].payload_hash))


def take(ledger: Ledger, envelopes: Sequence[Envelope]) -> list[tuple[Verdict, str]]:
    """What becomes of these, one after the other."""
    judged = []
    for envelope in envelopes:
        judgement = judge(ledger, envelope)
        judged.append(told(judgement))
        if judgement.record is not None:
            ledger.add(envelope, judgement.record)
    return judged


VALID = (Verdict.ACCEPT, "valid")
TOO_LATE = (Verdict.IGNORE, "by a former key, after its last checkpoint")
ASTRAY = (Verdict.IGNORE, "not on the way to the checkpoint that the root names")


def false_chain(count: int, signer: Identity = COORDINATOR) -> list[Envelope]:
    """What a thief makes of the old coordinator's key."""
    prev, chain = bytes(32), list[Envelope]()
    for number in range(1, count + 1):
        chain.append(seal(signer, "checkpoint", checkpoint_of(number, prev, Ledger(OLD), captions=7)))
        prev = chain[-1].payload_hash
    return chain


def test_a_former_keys_checkpoints_count_up_to_the_one_the_root_names() -> None:
    ledger = following(AT_THREE, CHAIN)
    assert take(ledger, CHAIN) == [VALID] * 3 + [TOO_LATE]
    assert take(ledger, [seal(NEW, "checkpoint", checkpoint_of(4, CHAIN[2].payload_hash, ledger))]) == [VALID]


@pytest.mark.parametrize("signer", [COORDINATOR, NEW])
def test_below_the_one_the_root_names_no_other_checkpoint_is_taken(signer: Identity) -> None:
    """Be it a thief's, or that of a new coordinator who has not heard of the chain."""
    chain = false_chain(3, signer)
    assert take(following(AT_THREE, chain), chain) == [ASTRAY] * 3
    assert take(following(AT_THREE, [*chain, *CHAIN]), [*chain, *CHAIN[:3]]) == [ASTRAY] * 3 + [VALID] * 3


def test_a_chain_is_vouched_for_from_its_end() -> None:
    hashes = [envelope.payload_hash for envelope in CHAIN]
    assert vouched(AT_THREE, CHAIN) == vouched(AT_THREE, reversed(CHAIN)) == set(hashes[:3])
    assert vouched(AT_THREE, CHAIN[:2]) == set()
    assert vouched(AT_THREE, [CHAIN[0], CHAIN[2]]) == {hashes[2]}
    assert vouched(OLD, CHAIN) == set()
    twice = rotated(FormerKey(COORDINATOR.public, 1, hashes[0]), FormerKey(EVE.public, 3, hashes[2]))
    assert vouched(twice, CHAIN) == set(hashes[:3])
    assert last_named(twice) == 3
    broken = Envelope("checkpoint", b"no checkpoint", COORDINATOR.public, bytes(64))
    to_broken = rotated(FormerKey(COORDINATOR.public, 3, broken.payload_hash))
    assert vouched(to_broken, [broken]) == {broken.payload_hash}


class Peer:
    """A peer with checkpoints, and everything of a node's that `Checkpoints.get_chain` asks for."""

    def __init__(self, ledger: Ledger, *pages: Sequence[Envelope]) -> None:
        self.ledger = ledger
        self.pages = list(pages)
        self.asked: list[int] = []

    async def chain(self, peer: str, after: int) -> list[bytes]:
        self.asked.append(after)
        return [envelope.data for envelope in self.pages.pop(0)] if self.pages else []

    async def receive(self, envelopes: Sequence[bytes]) -> Received:
        judged = take(self.ledger, [open_envelope(data) for data in envelopes])
        verdicts = [verdict for verdict, _ in judged]
        return Received(verdicts.count(Verdict.ACCEPT), verdicts.count(Verdict.REJECT))

    def get(self) -> list[int]:
        """Get its chain. Returns the numbers that are held then."""
        parts: tuple[Any, ...] = (self.ledger, None, self, None, self, None)
        trio.run(Checkpoints(*parts).get_chain, "peer")
        return sorted(self.ledger.checkpoints)


def test_a_joiner_gets_the_chain_that_the_root_names() -> None:
    following_four = seal(NEW, "checkpoint", checkpoint_of(4, CHAIN[2].payload_hash, Ledger(OLD)))
    peer = Peer(Ledger(AT_THREE), CHAIN[:2], CHAIN[2:3], [following_four])
    assert peer.get() == [1, 2, 3, 4]
    assert peer.asked == [0, 2, 3, 4]


def test_a_thiefs_chain_is_not_taken_and_the_next_peers_is() -> None:
    ledger = Ledger(AT_THREE)
    assert Peer(ledger, false_chain(2), false_chain(3)[2:]).get() == []
    assert Peer(ledger, [*false_chain(2), CHAIN[2]]).get() == []
    assert Peer(ledger, CHAIN[:2]).get() == []
    assert Peer(ledger, CHAIN[:3]).get() == [1, 2, 3]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param([CHAIN[0], CHAIN[0]], id="one twice"),
        pytest.param([CHAIN[1], CHAIN[0]], id="downwards"),
        pytest.param([seal(COORDINATOR, "ban", RULINGS[0])], id="something else"),
    ],
)
def test_a_peer_that_does_not_keep_to_the_order_is_left(page: list[Envelope]) -> None:
    """Else it could go on for ever."""
    with pytest.raises(RequestFailed, match="handed over"):
        Peer(Ledger(AT_THREE), page).get()
    with pytest.raises(RequestFailed, match="not asked for"):
        Peer(Ledger(AT_THREE), CHAIN[:1], CHAIN[:1]).get()


def test_a_key_of_which_nothing_counts_seals_nothing() -> None:
    ledger = ledger_at(0)
    assert told(judge(ledger, CHAIN[0])) == TOO_LATE
    by_eve = seal(EVE, "checkpoint", checkpoint_of(1, bytes(32), ledger))
    assert told(judge(ledger, by_eve)) == (Verdict.REJECT, "not signed by a checkpoint key")


def test_before_the_rotation_nothing_is_former() -> None:
    assert isinstance(OLD.root, Root)
    assert OLD.former == {}
    assert judge(Ledger(OLD), seal(COORDINATOR, "ban", RULINGS[0])).verdict is Verdict.ACCEPT


def test_while_a_newer_root_is_on_its_way_nobody_is_blamed_for_its_keys() -> None:
    """A new coordinator speaks up before every volunteer has its root."""
    stamp = Stamp(M, 7, 2, 2, HASH, 0, bytes(32), NOW, FOREVER)
    ledger = Ledger(OLD)
    by_new = [
        seal(NEW, "ban", RULINGS[0]),
        seal(NEW, "stamp", stamp),
        seal(NEW, "checkpoint", checkpoint_of(1, bytes(32), ledger)),
    ]
    assert {judge(ledger, envelope).verdict for envelope in by_new} == {Verdict.REJECT}
    ledger.newer_root = True
    assert {judge(ledger, envelope).verdict for envelope in by_new} == {Verdict.IGNORE}


def manifests(signer: Identity, project: Project, number: int) -> Envelope:
    """Two manifests of one number, as a proof."""
    made = structs.replace(project.manifest, version=number)
    one, other = (seal(signer, "manifest", structs.replace(made, expires=FOREVER + late)) for late in (0, 1))
    return seal(EVE, "fork", fork_of(one, other, number, M, NOW))


def test_a_thief_stops_nothing_once_his_key_is_replaced() -> None:
    """Two manifests of one number stop a project; those that a former key signs, for any number, do not."""
    now, before = rotated(FormerKey(COORDINATOR.public, 0, bytes(32))), manifests(COORDINATOR, OLD, 2)
    assert take(Ledger(OLD), [before]) == [VALID]
    settled = (Verdict.IGNORE, "of a key or a root that was replaced")
    checkpoints = seal(EVE, "fork", fork_of(CHAIN[0], false_chain(1)[0], 1, M, NOW))
    ledger = Ledger(now)
    assert take(ledger, [before, manifests(COORDINATOR, now, 2), manifests(NEW, OLD, 2), checkpoints]) == [settled] * 4
    assert ledger.open_works
    assert take(ledger, [manifests(EVE, now, 2)])[0][0] is Verdict.REJECT
    assert take(ledger, [manifests(NEW, now, 2)]) == [VALID]
    assert not ledger.open_works


def test_a_former_key_contradicts_nobody() -> None:
    """On whichever side of the proof it stands."""
    records = [checkpoint_of(1, bytes(32), Ledger(OLD), captions=captions) for captions in range(8)]
    forks = [fork_of(CHAIN[0], seal(NEW, "checkpoint", record), 1, M, NOW) for record in records]
    assert {fork.one == CHAIN[0].data for fork in forks} == {True, False}
    judged = take(Ledger(AT_THREE), [seal(EVE, "fork", fork) for fork in forks])
    assert judged == [(Verdict.IGNORE, "of a key or a root that was replaced")] * 8
