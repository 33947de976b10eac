"""The statements volunteers sign: grant, claim, result, profile; and the rows a result's body is made of.

Always holds: every field is bounded; a payload has at most 1,024 bytes; times are unix seconds.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.ledger.puzzle import Solution
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import MAX_CHUNK, MAX_CHUNKS, SLICE, Prefix
from p2pcap.project.ticket import Invite, Signature

Tid = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Mask = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Nonce = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
ChunkNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNKS)]
PublicName = Annotated[str, msgspec.Meta(max_length=32)]

MAX_RAW = 1_048_576
"""Bytes of a body before compression. This bounds what a body costs; a bound on the ratio would refuse honest bodies
in which a model repeats itself."""

MAX_ANSWER = 65_536
"""Characters of one answer."""

MAX_TOKENS = 65_536
"""Tokens of one answer; bounded so that sums over all rows stay within 64 bits."""

MAX_ANSWERS = 16
"""Answers of one row."""

MAX_CLAIMED = 8
"""Chunks in one claim."""


class Grant(Record, frozen=True):
    """Lets `key` write results, under this public name. Signed by the invited ticket key, and then `wish` is the
    admitted key's own signature; or by a coordinator; or, with `puzzle`, by the admitted key (p2pcap.ledger.grants).
    """

    m: Prefix
    key: Hash
    name: PublicName
    time: Count
    invite: Invite | UnsetType = UNSET
    wish: Signature | UnsetType = UNSET
    puzzle: Solution | UnsetType = UNSET


class ClaimedChunk(Record, frozen=True):
    """A chunk and the slices of it that are meant: bit i of `slices`, little-endian, is slice i."""

    chunk: ChunkNumber
    slices: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_CHUNK // SLICE // 8)]


class Claim(Record, frozen=True):
    """What its author is working on now; it replaces all the author's earlier claims. Empty: everything given back.

    `seconds` is the time one slice is expected to take. Soft state: never stored.
    """

    m: Prefix
    tid: Tid
    chunks: Annotated[tuple[ClaimedChunk, ...], msgspec.Meta(max_length=MAX_CLAIMED)]
    nonce: Nonce
    time: Count
    seconds: Annotated[int, msgspec.Meta(ge=1, le=600)]


class Result(Record, frozen=True):
    """The header of a captioned slice: what it covers and the hash of its body.

    `offset` and `n` are the span within the chunk; bit i of `mask` (little-endian) says that item offset + i has a row.
    `root` is the Merkle root over the rows; `length` and `raw` are the body's bytes compressed and not. `evidence` is
    the SHA-256 of its evidence (p2pcap.ledger.evidence), left out where the engine does not tell its tokens.
    """

    m: Prefix
    tid: Tid
    chunk: ChunkNumber
    offset: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNK)]
    n: Annotated[int, msgspec.Meta(ge=1, le=SLICE)]
    mask: Mask
    root: Hash
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_RAW)]
    raw: Annotated[int, msgspec.Meta(ge=1, le=MAX_RAW)]
    tokens: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    engine: Tid
    time: Count
    nonce: Nonce
    evidence: Hash | UnsetType = UNSET

    @property
    def items(self) -> int:
        """The items covered, as bits of the chunk: bit offset + i is item offset + i."""
        return int.from_bytes(self.mask, "little") << self.offset


class Profile(Record, frozen=True):
    """How its author wants to be named, and a link. Untrusted text; the newest one of an author counts."""

    m: Prefix
    name: PublicName
    link: Annotated[str, msgspec.Meta(max_length=128)]
    time: Count


class Answer(Record, frozen=True):
    """One prompt's answer: text, number of tokens generated, and why generation ended ("stop" or "length")."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_ANSWER)]
    tokens: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
    finish: Annotated[str, msgspec.Meta(pattern=r"^(stop|length)\Z")]


class Row(Record, frozen=True):
    """One item's outcome: an answer for each of the task's prompts, or an error code with its reason. `given` names the
    answers of other tasks that the prompts used (p2pcap.ledger.given); a task without such has none."""

    item: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNK)]
    image: Hash
    answers: Annotated[tuple[Answer, ...], msgspec.Meta(max_length=MAX_ANSWERS)] = ()
    error: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{0,32}\Z")] = ""
    reason: Annotated[str, msgspec.Meta(max_length=256)] = ""
    given: Tid | UnsetType = UNSET
