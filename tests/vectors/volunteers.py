"""Cases for every envelope, and for what volunteers sign: grants, claims, results, profiles."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.envelope import LIMITS, MAX_ENVELOPE, Envelope, seal
from p2pcap.ledger.grants import grant_for
from p2pcap.ledger.puzzle import Solution
from p2pcap.ledger.records import ClaimedChunk
from p2pcap.project.ticket import invite
from tests.makers import ADA, BOB, COORDINATOR, EVE, FOREVER, NOW, TICKET_KEY, make_grant
from tests.vectors.statements import (
    ADMITTED,
    BY_ID,
    CLAIM,
    EARLIER,
    GRANT,
    LATER,
    OTHER,
    PROFILE,
    PROJECT,
    RESULT,
    Case,
    ban,
    claim,
    grant,
    grant_wish,
    malleated,
    misfit,
    parts,
    profile,
    result,
    unsigned,
)

BEYOND: dict[str, dict[str, Any]] = {
    "a result that spans nothing": {"n": 0},
    "a result that spans 65": {"n": 65},
    "an empty body": {"length": 0},
    "a body over a mebibyte": {"raw": 2**20 + 1},
    "a negative offset": {"offset": -1},
    "a short mask": {"mask": bytes(7)},
    "a short root": {"root": bytes(31)},
    "a time beyond 2**53": {"time": 2**53},
    "true for a number": {"tokens": True},
    "a link for a root": {"root": bytes.fromhex("01711220") + bytes(32)},
    "a short hash of evidence": {"evidence": bytes(31)},
    "a result with a field too many": {"extra": 1},
    "a result with a field missing": {"tokens": None},
}
"""Fields of a result beyond their bounds."""


def envelopes() -> Iterator[Case]:
    """What holds for every type."""
    sound = claim()
    yield Case("nothing", b"", "reject", "malformed")
    yield Case("the most bytes, of no sense", bytes(MAX_ENVELOPE), "reject", "malformed")
    yield Case("no list of five", encode([1, "claim", b"", ADA.public]), "reject", "malformed")
    yield Case("a map", encode({"claim": sound.payload}), "reject", "malformed")
    yield Case("an indefinite list", b"\x9f" + sound.data[1:] + b"\xff", "reject", "malformed")
    yield Case("a version in two bytes", b"\x85\x18\x01" + sound.data[2:], "reject", "malformed")
    yield Case("bytes after the end", sound.data + b"\0", "reject", "malformed")
    yield Case("a tag around it", b"\xd9\xd9\xf7" + sound.data, "reject", "malformed")
    yield Case("another version", parts(sound, version=2), "reject", "malformed")
    yield Case("true for the version", parts(sound, version=True), "reject", "malformed")
    yield Case("a type nobody knows", parts(sound, kind="opinion"), "reject", "malformed")
    yield Case("more bytes than any statement may have", bytes(MAX_ENVELOPE + 1), "reject", "too large")
    yield Case("a short key", parts(sound, author=ADA.public[:31]), "reject", "malformed")
    yield Case("a long signature", parts(sound, signature=bytes(65)), "reject", "malformed")
    yield Case("text for the payload", parts(sound, payload="text"), "reject", "malformed")
    yield Case("a payload over the limit", parts(sound, payload=bytes(1_025)), "reject", "malformed")
    yield Case("a payload of no sense", parts(sound, payload=b"\xff"), "reject", "malformed")
    deep = b"\x81" * 900 + b"\0"
    yield Case("a payload of lists in lists", parts(sound, payload=deep), "reject", "malformed")
    for kind, limit in LIMITS.items():
        large = parts(seal(ADA, kind, bytes(limit - 3)), payload=bytes(limit + 1))
        yield Case(f"a {kind} with a payload over its limit", large, "reject", "malformed")
    for kind in ("root", "manifest"):
        yield Case(f"a {kind}", seal(COORDINATOR, kind, {}).data, "ignore", "a type that is not gossiped")


def grants() -> Iterator[Case]:
    yield Case("a grant", GRANT.data, "accept")
    yield Case("a grant without a name", grant(name="").data, "accept")
    full = "as many as may have joined so, or its author has"
    yield Case("a second grant for the same author", LATER.data, "ignore", full, ADMITTED)
    yield Case("a second grant with a lower id", EARLIER.data, "accept", before=ADMITTED)
    yield Case("a grant by a ticket for one", BY_ID[1].data, "accept")
    yield Case("another by a ticket for one", BY_ID[2].data, "ignore", full, BY_ID[1:2])
    yield Case("another by a ticket for one, with a lower id", BY_ID[0].data, "accept", before=BY_ID[1:2])
    yield Case("one that was displaced", BY_ID[1].data, "ignore", full, BY_ID[1::-1])
    fewer = invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, FOREVER, 5)
    more = msgspec.structs.replace(fewer, uses=6)
    reason = "the invitation is not the coordinator's"
    yield Case("an invitation made for more", grant(invite=more).data, "reject", reason)
    unlimited = msgspec.structs.replace(fewer, uses=UNSET)
    yield Case("one made for any number", grant(invite=unlimited).data, "reject", reason)
    none = misfit("grant", grant_for(ADA, PROJECT.m, "", NOW, msgspec.structs.replace(fewer, uses=0)))
    yield Case("an invitation for nobody", none, "reject", "malformed")
    own: dict[str, Any] = {"invite": UNSET, "wish": UNSET}
    yield Case("a coordinator's own grant", grant(COORDINATOR, **own).data, "accept")
    yield Case("a ticket's grant without its invitation", grant(**own).data, "reject", "not signed by a coordinator")
    yield Case("a stranger's own grant", grant(ADA, **own).data, "reject", "not signed by a coordinator")
    yield Case("a wish alone", grant(COORDINATOR, invite=UNSET).data, "reject", "a wish without an invitation")
    odd = "an invitation without a wish, or with a puzzle"
    yield Case("an invitation without a wish", grant(wish=UNSET).data, "reject", odd)
    solved = Solution(0, bytes(16), 0)
    yield Case("an invitation with a puzzle", grant(wish=grant_wish(), puzzle=solved).data, "reject", odd)
    puzzle = {**own, "puzzle": solved}
    yield Case("another's puzzle", grant(BOB, **puzzle).data, "reject", "another's puzzle")
    closed = "not admitted in this way, or not any more"
    yield Case("a puzzle where invitations admit", grant(ADA, **puzzle).data, "ignore", closed)
    yield Case("a grant again", GRANT.data, "ignore", "seen", ADMITTED)
    yield Case("a grant again, with another signature", unsigned(GRANT), "ignore", "seen", ADMITTED)
    yield Case("a grant of another project", make_grant(OTHER, ADA).data, "reject", "another project's")
    yield Case("a grant signed by a stranger", grant(EVE).data, "reject", "not signed by the invited key")
    yield Case("a grant signed by its own key", grant(ADA).data, "reject", "not signed by the invited key")
    foreign = invite(EVE, PROJECT.m, TICKET_KEY.public, FOREVER)
    reason = "the invitation is not the coordinator's"
    yield Case("an invitation by a stranger", grant(invite=foreign).data, "reject", reason)
    elsewhere = invite(COORDINATOR, OTHER.m, TICKET_KEY.public, FOREVER)
    yield Case("an invitation to another project", grant(invite=elsewhere).data, "reject", reason)
    ended = invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, NOW - 1)
    yield Case("an invitation that had ended", grant(invite=ended).data, "reject", "the invitation had expired")
    ending = invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, NOW)
    yield Case("an invitation in its last second", grant(invite=ending).data, "accept")
    yield Case("an invitation that ended later", grant(invite=ending).data, "accept", later=100_000)
    prolonged = msgspec.structs.replace(ended, expires=FOREVER)
    yield Case("an invitation made longer", grant(invite=prolonged).data, "reject", reason)
    yield Case("a grant two minutes ahead", grant(time=NOW + 120).data, "accept")
    yield Case("a grant from the future", grant(time=NOW + 121).data, "ignore", "from the future")
    unasked = "the admitted key did not ask for it"
    yield Case("a grant for somebody else", grant(key=BOB.public).data, "reject", unasked)
    yield Case("a grant under another name", grant(name="Eve", wish=grant_wish()).data, "reject", unasked)
    yield Case("a grant with no signature", unsigned(grant()), "reject", "bad signature")
    yield Case("a grant with a malleated signature", malleated(grant()), "reject", "bad signature")
    sound = grant_for(ADA, PROJECT.m, "", NOW, invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, FOREVER))
    yield Case("a name too long", misfit("grant", sound, name="n" * 33), "reject", "malformed")
    yield Case("a field too many", misfit("grant", sound, role="verifier"), "reject", "malformed")
    yield Case("a field missing", misfit("grant", sound, name=None), "reject", "malformed")


def claims() -> Iterator[Case]:
    first = claim()
    named = (GRANT, first)
    yield Case("a claim", first.data, "accept", before=ADMITTED)
    yield Case("a claim of nothing", claim(chunks=()).data, "accept", before=ADMITTED)
    yield Case("a claim of a stranger", first.data, "ignore", "unknown author")
    yield Case("a claim of somebody else", claim(BOB).data, "ignore", "unknown author", ADMITTED)
    yield Case("a stranger's claim with no signature", unsigned(first), "ignore", "unknown author")
    yield Case("a claim in another project", claim(m=OTHER.m).data, "reject", "another project's", ADMITTED)
    yield Case("a claim for another task", claim(tid=b"another1").data, "ignore", "for another task", ADMITTED)
    for late, verdict in ((-61, "ignore"), (-60, "accept"), (60, "accept"), (61, "ignore")):
        reason = "valid" if verdict == "accept" else "not of this minute"
        yield Case(f"a claim {late} s off", first.data, verdict, reason, ADMITTED, -late)
    yield Case("a newer claim", claim(nonce=2).data, "accept", before=named)
    yield Case("a claim again", first.data, "ignore", "older than the author's newest", named)
    yield Case("an older claim", claim(nonce=0).data, "ignore", "older than the author's newest", named)
    given_back = (GRANT, claim(nonce=5, chunks=()))
    yield Case("a claim that was given back", first.data, "ignore", "older than the author's newest", given_back)
    beyond = (ClaimedChunk(2, b"\1"),)
    yield Case(
        "a chunk beyond the table", claim(chunks=beyond).data, "ignore", "of a chunk that is not known here", ADMITTED
    )
    for bits, verdict in ((b"\2", "accept"), (b"\4", "reject"), (b"\1\1", "reject"), (b"\1\0", "accept")):
        reason = "valid" if verdict == "accept" else "no such slice"
        chunks = (ClaimedChunk(1, bits),)
        yield Case(f"slices {bits.hex()} of two", claim(chunks=chunks).data, verdict, reason, ADMITTED)
    eight = tuple(ClaimedChunk(index % 2, b"\1") for index in range(8))
    yield Case("eight chunks", claim(chunks=eight).data, "accept", before=ADMITTED)
    yield Case("nine chunks", misfit("claim", CLAIM, chunks=(*eight, eight[0])), "reject", "malformed", ADMITTED)
    for seconds, verdict in ((0, "reject"), (1, "accept"), (600, "accept"), (601, "reject")):
        reason = "valid" if verdict == "accept" else "malformed"
        yield Case(f"{seconds} s a slice", misfit("claim", CLAIM, seconds=seconds), verdict, reason, ADMITTED)
    yield Case("a claim with no signature", unsigned(first), "reject", "bad signature", ADMITTED)
    as_result = parts(first, signature=ADA.sign("result", first.payload))
    yield Case("a claim signed as a result", as_result, "reject", "bad signature", ADMITTED)
    yield Case(
        "a claim under another's name", parts(claim(BOB), author=ADA.public), "reject", "bad signature", ADMITTED
    )


def results() -> Iterator[Case]:
    first = result()
    stored = (GRANT, first)
    yield Case("a result", first.data, "accept", before=ADMITTED)
    yield Case("a result of long ago", first.data, "accept", before=ADMITTED, later=100_000_000)
    yield Case("a result of a stranger", first.data, "ignore", "unknown author")
    yield Case("a stranger's result with no signature", unsigned(first), "ignore", "unknown author")
    yield Case("a result again", first.data, "ignore", "seen", stored)
    yield Case("a result again, with another signature", unsigned(first), "ignore", "seen", stored)
    yield Case("the same slice again", result(nonce=2).data, "accept", before=stored)
    yield Case("a result in another project", result(m=OTHER.m).data, "reject", "another project's", ADMITTED)
    yield Case("a result of another task", result(tid=b"another1").data, "ignore", "for another task", ADMITTED)
    yield Case("a result in no chunk", result(chunk=2).data, "ignore", "of a chunk that is not known here", ADMITTED)
    yield Case("a result beyond the end", result(n=37).data, "reject", "beyond the chunk's end", ADMITTED)
    yield Case("a result that begins at the end", result(offset=100).data, "reject", "beyond the chunk's end", ADMITTED)
    reason = "covers nothing, or more than it spans"
    yield Case("a result of nothing", result(mask=bytes(8)).data, "reject", reason, ADMITTED)
    over = (2**37 - 1).to_bytes(8, "little")
    yield Case("a result of more than its span", result(mask=over).data, "reject", reason, ADMITTED)
    last = (2**35).to_bytes(8, "little")
    yield Case("a result of the last image", result(mask=last).data, "accept", before=ADMITTED)
    yield Case("a result that spans one image", result(n=1, mask=b"\1" + bytes(7)).data, "accept", before=ADMITTED)
    link = bytes([1, 0x71, 0x12, 28]) + bytes(28)
    yield Case("a result that names evidence", result(evidence=link).data, "accept", before=ADMITTED)
    yield Case("a root that looks like a link", result(root=link).data, "accept", before=ADMITTED)
    tagged = seal(ADA, "result", msgspec.structs.replace(RESULT, root=bytes(32)))
    payload = tagged.payload.replace(b"\x58\x20" + bytes(32), b"\xd8\x2a\x58\x21\x00" + link)
    as_link = Envelope("result", payload, ADA.public, ADA.sign("result", payload))
    yield Case("a root that is a link", as_link.data, "reject", "malformed", ADMITTED)
    yield Case("a result two minutes ahead", result(time=NOW + 120).data, "accept", before=ADMITTED)
    yield Case("a result from the future", result(time=NOW + 121).data, "ignore", "from the future", ADMITTED)
    yield Case("a result with no signature", unsigned(first), "reject", "bad signature", ADMITTED)
    yield Case("a result with a malleated signature", malleated(first), "reject", "bad signature", ADMITTED)
    as_claim = parts(first, signature=ADA.sign("claim", first.payload))
    yield Case("a result signed as a claim", as_claim, "reject", "bad signature", ADMITTED)
    for name, fields in BEYOND.items():
        yield Case(name, misfit("result", RESULT, **fields), "reject", "malformed", ADMITTED)


def profiles() -> Iterator[Case]:
    first = profile()
    yield Case("a profile", first.data, "accept", before=ADMITTED)
    yield Case("a profile of a stranger", first.data, "ignore", "unknown author")
    yield Case("a profile again", first.data, "ignore", "seen", (GRANT, first))
    yield Case("a newer profile", profile(time=NOW + 1).data, "accept", before=(GRANT, first))
    yield Case("an older profile", profile(time=NOW - 1).data, "ignore", "older than the one held", (GRANT, first))
    one, other = sorted((first, profile(name="Lovelace")), key=lambda envelope: envelope.id)
    yield Case("of two at a time the lower id", one.data, "accept", before=(GRANT, other))
    yield Case("of two at a time the higher id", other.data, "ignore", "older than the one held", (GRANT, one))
    yield Case("a profile from the future", profile(time=NOW + 121).data, "ignore", "from the future", ADMITTED)
    yield Case("a profile in another project", profile(m=OTHER.m).data, "reject", "another project's", ADMITTED)
    yield Case("a profile with no signature", unsigned(first), "reject", "bad signature", ADMITTED)
    yield Case("a link too long", misfit("profile", PROFILE, link="l" * 129), "reject", "malformed", ADMITTED)
    yield Case("a profile of a banned author", first.data, "accept", before=(GRANT, ban()))
