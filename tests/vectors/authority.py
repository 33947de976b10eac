"""Cases for what certain keys sign: rulings, verdicts, checkpoints, stamps; and for proofs that one spoke twice."""

from collections.abc import Iterator
from typing import Any

import msgspec

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import Segment
from p2pcap.ledger.fork import fork_of
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    EVE,
    NOW,
    make_grant,
    manifest_of,
)
from tests.vectors.statements import (
    ADMITTED,
    BAN,
    CHECKPOINT,
    FINDING,
    GRANT,
    OTHER,
    PROJECT,
    VOID,
    Case,
    ban,
    checkpoint,
    claim,
    misfit,
    redact,
    result,
    stamp,
    unsigned,
    verdict,
    void,
)


def rulings() -> Iterator[Case]:
    for name, make in (("ban", ban), ("void", void), ("redaction", redact)):
        first = make()
        yield Case(f"a {name}", first.data, "accept")
        yield Case(f"a {name} again", first.data, "ignore", "seen", (first,))
        yield Case(f"a {name} by a volunteer", make(ADA).data, "reject", "not signed by a coordinator", ADMITTED)
        yield Case(f"a {name} in another project", make(m=OTHER.m).data, "reject", "another project's")
        yield Case(f"a {name} from the future", make(time=NOW + 121).data, "ignore", "from the future")
        yield Case(f"a {name} with no signature", unsigned(first), "reject", "bad signature")
    yield Case("a ban of nobody known", ban(author=EVE.public).data, "accept")
    yield Case("a ban of another scope", misfit("ban", BAN, scope="some"), "reject", "malformed")
    yield Case("a void of nothing", misfit("void", VOID, batches=()), "reject", "malformed")
    yield Case("a void of nine", misfit("void", VOID, batches=(bytes(32),) * 9), "reject", "malformed")
    yield Case("a redaction in no chunk", redact(chunk=2).data, "ignore", "of a chunk that is not known here")
    yield Case("a redaction beyond the end", redact(offset=64, n=37).data, "reject", "beyond the chunk's end")
    reason = "covers nothing, or more than it spans"
    yield Case("a redaction of nothing", redact(mask=bytes(8)).data, "reject", reason)
    banned, lifted = (GRANT, ban()), (GRANT, ban(), ban(version=2, scope="none"))
    yield Case("a claim of a banned author", claim().data, "ignore", "banned", banned)
    yield Case("a result of a banned author", result().data, "ignore", "banned", banned)
    yield Case("a claim after the ban was lifted", claim().data, "accept", before=lifted)
    yield Case("a result after the ban was lifted", result().data, "accept", before=lifted)
    yield Case(
        "an older ban lifts nothing",
        result().data,
        "ignore",
        "banned",
        (*lifted[:1], *reversed(lifted[1:]), ban(version=3)),
    )


def verdicts() -> Iterator[Case]:
    stored = (GRANT, result())
    first = verdict()
    yield Case("a verdict", first.data, "accept", before=stored)
    yield Case("a verdict again", first.data, "ignore", "seen", (*stored, first))
    yield Case("a verdict on an unknown result", first.data, "ignore", "of an unknown result", ADMITTED)
    stranger = verdict(BOB)
    yield Case("a verdict by nobody known", stranger.data, "ignore", "unknown author", stored)
    accusers = (*stored, make_grant(PROJECT, BOB))
    good = "not signed by a verifier"
    yield Case("a good word by a volunteer", verdict(BOB, verdict="ok").data, "ignore", good, accusers)
    yield Case("an accusation", stranger.data, "accept", before=accusers)
    first_two = sorted((stranger, verdict(BOB, time=NOW - 1)), key=lambda one: one.id)
    again = "one accuses a result once"
    yield Case("a second accusation", first_two[1].data, "ignore", again, (*accusers, first_two[0]))
    yield Case("a second accusation with a lower id", first_two[0].data, "accept", before=(*accusers, first_two[1]))
    yield Case("an accusation of oneself", verdict(ADA).data, "reject", "on one's own result", stored)
    yield Case(
        "a verdict on no item", verdict(items=bytes(8)).data, "reject", "on items the result does not cover", stored
    )
    beyond = (2**36).to_bytes(8, "little")
    yield Case(
        "a verdict beyond the result",
        verdict(items=beyond).data,
        "reject",
        "on items the result does not cover",
        stored,
    )
    own = (make_grant(PROJECT, COORDINATOR), result(COORDINATOR))
    judged = verdict(batch=own[1].id)
    yield Case("a verdict on one's own result", judged.data, "reject", "on one's own result", own)
    yield Case("a verdict of no sense", misfit("verdict", FINDING, verdict="fine"), "reject", "malformed", stored)
    yield Case("a verdict in another project", verdict(m=OTHER.m).data, "reject", "another project's", stored)
    yield Case("a verdict from the future", verdict(time=NOW + 121).data, "ignore", "from the future", stored)
    yield Case("a verdict with no signature", unsigned(first), "reject", "bad signature", stored)


def checkpoints() -> Iterator[Case]:
    first = checkpoint()
    second = checkpoint(number=2, prev=first.payload_hash)
    yield Case("a first checkpoint", first.data, "accept")
    yield Case("a checkpoint again", first.data, "ignore", "seen", (first,))
    yield Case("a second checkpoint", second.data, "accept", before=(first,))
    missing = "a checkpoint before it is missing"
    yield Case("a second checkpoint before the first", second.data, "ignore", missing)
    reason = "a first checkpoint with one before it"
    yield Case("a first checkpoint with one before it", checkpoint(prev=b"p" * 32).data, "reject", reason)
    elsewhere = checkpoint(number=2, prev=b"p" * 32)
    yield Case("a checkpoint of another chain", elsewhere.data, "ignore", "of another chain of checkpoints", (first,))
    contrary = checkpoint(beacon=b"o" * 32)
    reason = "another checkpoint of this number"
    yield Case("a checkpoint that contradicts one", contrary.data, "ignore", reason, (first,))
    yield Case("one that contradicts with no signature", unsigned(contrary), "reject", "bad signature", (first,))
    yield Case(
        "a checkpoint by a volunteer", checkpoint(ADA).data, "reject", "not signed by a checkpoint key", ADMITTED
    )
    yield Case("a checkpoint in another project", checkpoint(m=OTHER.m).data, "reject", "another project's")
    yield Case("a checkpoint from the future", checkpoint(time=NOW + 121).data, "ignore", "from the future")
    yield Case("a checkpoint with no signature", unsigned(first), "reject", "bad signature")
    yield Case("a checkpoint numbered zero", misfit("checkpoint", CHECKPOINT, number=0), "reject", "malformed")
    five = (Segment(bytes(32), 1, 0, 0),) * 5
    yield Case("a checkpoint of five segments", misfit("checkpoint", CHECKPOINT, segments=five), "reject", "malformed")


def stamps() -> Iterator[Case]:
    first = stamp()
    yield Case("a stamp", first.data, "accept")
    yield Case("a stamp again", first.data, "ignore", "seen", (first,))
    yield Case("a newer stamp", stamp(version=2).data, "accept", before=(first,))
    yield Case("an older stamp", first.data, "ignore", "older than the one held", (stamp(version=2),))
    yield Case("an expired stamp", stamp(expires=NOW - 1).data, "accept")
    yield Case("a stamp by a volunteer", stamp(ADA).data, "reject", "not signed by a coordinator", ADMITTED)
    yield Case("a stamp in another project", stamp(m=OTHER.m).data, "reject", "another project's")
    yield Case("a stamp from the future", stamp(time=NOW + 121).data, "ignore", "from the future")
    yield Case("a stamp with no signature", unsigned(first), "reject", "bad signature")


def forks() -> Iterator[Case]:
    one, other = checkpoint(), checkpoint(beacon=b"o" * 32)
    sound = fork_of(one, other, 1, PROJECT.m, NOW)

    def fork(author: Identity = ADA, **fields: Any) -> Envelope:
        return seal(author, "fork", msgspec.structs.replace(sound, **fields))

    yield Case("a fork", fork().data, "accept", before=ADMITTED)
    yield Case("a fork found by the coordinator", fork(COORDINATOR).data, "accept")
    yield Case("a fork found by a stranger", fork().data, "accept")
    yield Case("a fork again", fork().data, "ignore", "seen", (GRANT, fork()))
    low, high = sorted((fork(), fork(time=NOW + 1)), key=lambda envelope: envelope.id)
    yield Case("of two proofs the lower id", low.data, "accept", before=(GRANT, high))
    yield Case("of two proofs the higher id", high.data, "ignore", "older than the one held", (GRANT, low))
    odd = "the fork's statements are not two of one number"
    yield Case("a fork of another number", fork(number=2).data, "reject", odd, ADMITTED)
    yield Case("a fork the wrong way round", fork(one=sound.other, other=sound.one).data, "reject", odd, ADMITTED)
    second = checkpoint(number=2, prev=one.payload_hash)
    apart = fork_of(one, second, 1, PROJECT.m, NOW)
    yield Case("a fork of two numbers", seal(ADA, "fork", apart).data, "reject", odd, ADMITTED)
    same = fork_of(one, Envelope("checkpoint", one.payload, one.author, bytes(64)), 1, PROJECT.m, NOW)
    agree = "the fork's statements do not contradict each other"
    yield Case("a fork of one statement", seal(ADA, "fork", same).data, "reject", agree, ADMITTED)
    strangers = fork_of(checkpoint(EVE), checkpoint(EVE, beacon=b"o" * 32), 1, PROJECT.m, NOW)
    yield Case("a fork by no checkpoint key", seal(ADA, "fork", strangers).data, "reject", agree, ADMITTED)
    forged = fork_of(one, Envelope("checkpoint", other.payload, other.author, bytes(64)), 1, PROJECT.m, NOW)
    unsigned_ = "the fork's statements are not signed"
    yield Case("a fork with a forged half", seal(ADA, "fork", forged).data, "reject", unsigned_, ADMITTED)
    unread = "the fork's statements cannot be read"
    yield Case("a fork of no sense", fork(one=b"\0", other=b"\1").data, "reject", unread, ADMITTED)
    first, second = (manifest_of(PROJECT.root_envelope, plan) for plan in (b"one", b"other"))
    yield Case(
        "a fork of manifests",
        seal(ADA, "fork", fork_of(first, second, 1, PROJECT.m, NOW)).data,
        "accept",
        before=ADMITTED,
    )
    yield Case("a fork in another project", fork(m=OTHER.m).data, "reject", "another project's", ADMITTED)
    yield Case("a fork from the future", fork(time=NOW + 121).data, "ignore", "from the future", ADMITTED)
    yield Case("a fork with no signature", unsigned(fork()), "reject", "bad signature", ADMITTED)
