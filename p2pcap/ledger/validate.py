"""Whether a statement is taken in, ignored or refused: one pure function, cheap tests first, the signature last.

IGNORE is for what an honest relayer could not have known to be wrong (too early, too late, seen, not yet granted);
REJECT is for what every relayer could have seen, and it is held against whoever relayed it. The clock is used for
admission only; no stored fact depends on it.

Always holds: every statement gets one of the three verdicts, by the rules in the order in which they stand here and in
docs/protocol.md. Apart from what is early, late or over a quota, the verdict does not depend on the order in which
statements arrive; if it did, two nodes could hold different sets for ever.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.envelope import LIMITS, MAX_ENVELOPE, Envelope, open_envelope
from p2pcap.errors import CodecError
from p2pcap.ledger import authority
from p2pcap.ledger.admission import Way
from p2pcap.ledger.checkpoint import Checkpoint, Stamp
from p2pcap.ledger.engines import kind_of
from p2pcap.ledger.fork import Fork
from p2pcap.ledger.grants import admitted, is_wished, misshapen
from p2pcap.ledger.judgement import Judgement, Verdict, Wait, ignore, reject, signed
from p2pcap.ledger.puzzle import Solution, is_solved, is_stamped
from p2pcap.ledger.records import Claim, Grant, Profile, Result
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.verdicts import word_of
from p2pcap.project.records import SLICE

__all__ = ["CLAIM_WINDOW", "FUTURE", "Judgement", "Verdict", "slices_in", "validate"]

FUTURE = 120
"""Seconds a statement's time may lie ahead of this node's clock."""

CLAIM_WINDOW = 60
"""Seconds a claim's time may lie off this node's clock, either way."""

Rule = Callable[[Ledger, Envelope, Any, float], Judgement | None]
"""Judges a statement of one type; None when only the signature is left to check."""


def validate(ledger: Ledger, data: bytes, now: float) -> Judgement:
    """Judge the statement in `data` at local time `now` (unix seconds). Never raises; changes nothing."""
    if len(data) > MAX_ENVELOPE:
        return reject("too large")
    try:
        envelope = open_envelope(data)
        if envelope.kind not in RULES:
            return ignore("a type that is not gossiped")
        kind, rule = RULES[envelope.kind]
        record = decode(envelope.payload, kind, LIMITS[envelope.kind])
    except CodecError as error:
        return reject(f"malformed: {error}")
    return _common(ledger, envelope, record, now) or rule(ledger, envelope, record, now) or signed(envelope, record)


def _common(ledger: Ledger, envelope: Envelope, record: Any, now: float) -> Judgement | None:
    """What holds for every type."""
    if record.m != ledger.project.m:
        return reject("another project's")
    if ledger.holds(envelope.id):
        return ignore("seen")
    if record.time > now + FUTURE and not isinstance(record, Claim):
        return ignore("from the future", Wait("time", record.time - FUTURE))
    return None


def _grant(ledger: Ledger, envelope: Envelope, grant: Grant, now: float) -> Judgement | None:
    if why := misshapen(grant, envelope.author):
        return reject(why)
    asking = admitted(envelope.id, envelope.author, grant)
    if fault := _unsigned(ledger, asking.way):
        return fault
    if why := ledger.members.refusal(asking, now):
        return ignore(why)
    if ledger.stamp is not None and grant.time > ledger.stamp.expires and envelope.id not in ledger.seals.by_id:
        return ignore("after the coordinator's last stamp", Wait("stamp", 0))
    signers = ledger.project.coordinators | ledger.project.former.keys()
    if grant.invite is not UNSET and not grant.invite.holds(ledger.project.m, signers):
        return reject("the invitation is not the coordinator's")
    if grant.invite is not UNSET and not is_wished(grant):
        return reject("the admitted key did not ask for it")
    if grant.puzzle is not UNSET and envelope.id not in ledger.seals.by_id:
        return _unsolved(envelope, grant, grant.puzzle)
    return None


def _unsigned(ledger: Ledger, way: Way) -> Judgement | None:
    """Whether no coordinator's key, in force or replaced, stands behind the grant."""
    if not way.signer or way.signer in ledger.project.coordinators or way.signer in ledger.project.former:
        return None
    reason = "the invitation is not the coordinator's" if way.ticket else "not signed by a coordinator"
    return ignore(reason) if ledger.newer_root else reject(reason)


def _unsolved(envelope: Envelope, grant: Grant, solution: Solution) -> Judgement | None:
    """The puzzle's answer, the cheap half first, and Argon2id only for what is signed."""
    if not is_stamped(solution, grant.m, grant.key):
        return reject("the puzzle's answer is not stamped")
    if not envelope.holds():
        return reject("bad signature")
    return None if is_solved(solution, grant.m, grant.key) else reject("the puzzle is not solved")


def _claim(ledger: Ledger, envelope: Envelope, claim: Claim, now: float) -> Judgement | None:
    if claim.tid not in ledger.works:
        return ignore("for another task")
    if abs(claim.time - now) > CLAIM_WINDOW:
        return ignore("not of this minute")
    for claimed in claim.chunks:
        if claimed.chunk >= len(ledger.project.counts):
            return ignore("of a chunk that is not known here")
        if int.from_bytes(claimed.slices, "little") >> slices_in(ledger.project.counts[claimed.chunk]):
            return reject("no such slice")
    if fault := _barred(ledger, envelope):
        return fault
    if len(claim.chunks) > 1 and ledger.members.is_on_probation(envelope.author):
        return ignore("more than an author on probation may claim")
    held = ledger.claims.of(envelope.author)
    if held is not None and held.claim.nonce >= claim.nonce:
        return ignore("older than the author's newest")
    if not ledger.claims.may(envelope.author, now):
        return ignore("too many claims")
    return None


def _result(ledger: Ledger, envelope: Envelope, result: Result, now: float) -> Judgement | None:
    work = ledger.works.get(result.tid)
    if work is None:
        return ignore("for another task", Wait("task", result.tid))
    if envelope.id in work.announced.get(result.chunk, {}):
        return ignore("seen")
    if not work.task.takes(kind_of(result.engine)):
        return reject("an engine that the task does not take")
    if result.chunk >= len(ledger.project.counts):
        return ignore("of a chunk that is not known here", Wait("chunk", result.chunk))
    if fault := _misplaced(ledger, result):
        return fault
    if fault := _barred(ledger, envelope):
        return fault
    if envelope.id not in ledger.seals.by_id and not _may_result(ledger, envelope, result, now):
        return ignore("too many results")
    room = ledger.members.room(envelope.author)
    if envelope.id not in ledger.seals.by_id and room is not None and result.items.bit_count() > room:
        return ignore("more than an author on probation may have unsealed")
    return None


def _may_result(ledger: Ledger, envelope: Envelope, result: Result, now: float) -> bool:
    is_new = ledger.counting.is_audited(result.tid) and ledger.trust.tier(envelope.author) == 0
    return ledger.rations.may_result(envelope.author, is_new, now)


def _profile(ledger: Ledger, envelope: Envelope, profile: Profile, now: float) -> Judgement | None:
    if ledger.is_stale(profile, envelope.id, envelope.author):
        return ignore("older than the one held")
    return _unadmitted(ledger, envelope)


def _unadmitted(ledger: Ledger, envelope: Envelope) -> Judgement | None:
    if ledger.members.knows(envelope.author):
        return None
    if any(ledger.members.kept.of(envelope.author)):
        return ignore("its author is not admitted any more")
    return ignore("unknown author", Wait("author", envelope.author))


def _barred(ledger: Ledger, envelope: Envelope) -> Judgement | None:
    """Not admitted, or banned. A ban takes results out of the set; a profile stays, whichever of the two came first."""
    if fault := _unadmitted(ledger, envelope):
        return fault
    if ledger.rulings.is_banned(envelope.author, ledger.seals.by_id.get(envelope.id)):
        return ignore("banned")
    return None


def _verdict(ledger: Ledger, envelope: Envelope, finding: Finding, now: float) -> Judgement | None:
    """A verifier's finding, or the accusation of another who is admitted."""
    word = word_of(envelope.id, envelope.author, finding)
    if ledger.rulings.is_banned(word.author, ledger.seals.by_id.get(word.id)):
        return ignore("banned")
    if not ledger.verdicts.is_ruling(word) and (fault := _accusation(ledger, envelope, finding, now)):
        return fault
    author, result = ledger.results.get(finding.batch, (b"", None))
    if result is None:
        return ignore("of an unknown result", Wait("batch", finding.batch))
    if word.items == 0 or word.items & ~int.from_bytes(result.mask, "little"):
        return reject("on items the result does not cover")
    if author == envelope.author:
        return reject("on one's own result")
    if ledger.is_stale(finding, envelope.id, envelope.author):
        return ignore("one accuses a result once")
    return None


def _accusation(ledger: Ledger, envelope: Envelope, finding: Finding, now: float) -> Judgement | None:
    """What is signed by no verifier that is known here."""
    if envelope.author in ledger.project.former:
        return ignore("by a former key, and not sealed in its time")
    if finding.verdict != "bad":
        return ignore("not signed by a verifier", Wait("verifier", envelope.author))
    if fault := _unadmitted(ledger, envelope):
        return fault
    return None if ledger.rations.accusations.may(envelope.author, now) else ignore("too many accusations")


def _misplaced(ledger: Ledger, spanned: Result | Redact) -> Judgement | None:
    """Whether span and mask lie outside the chunk."""
    if spanned.offset + spanned.n > ledger.project.counts[spanned.chunk]:
        return reject("beyond the chunk's end")
    mask = int.from_bytes(spanned.mask, "little")
    if mask == 0 or mask >> spanned.n:
        return reject("covers nothing, or more than it spans")
    return None


def _redact(ledger: Ledger, envelope: Envelope, redact: Redact, now: float) -> Judgement | None:
    if redact.chunk >= len(ledger.project.counts):
        return ignore("of a chunk that is not known here", Wait("chunk", redact.chunk))
    return _misplaced(ledger, redact) or authority.coordinator(ledger, envelope, redact, now)


RULES: Mapping[str, tuple[type[Any], Rule]] = {
    "grant": (Grant, _grant),
    "claim": (Claim, _claim),
    "result": (Result, _result),
    "profile": (Profile, _profile),
    "verdict": (Finding, _verdict),
    "ban": (Ban, authority.coordinator),
    "void": (Void, authority.coordinator),
    "redact": (Redact, _redact),
    "checkpoint": (Checkpoint, authority.checkpoint),
    "stamp": (Stamp, authority.stamp),
    "fork": (Fork, authority.fork),
}
"""The types that travel as statements, with their schemas and rules. Root and manifest travel as blobs."""


def slices_in(count: int) -> int:
    """Number of slices in a chunk of `count` images."""
    return -(-count // SLICE)
