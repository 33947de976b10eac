"""How far each chunk of a project is and who is at work on which: what a front end draws as a map.

A project may have a million chunks, so a chunk is one letter of a text. Nothing heavy is imported here, as in
p2pcap.node.snapshot: whatever displays a node loads neither libp2p nor DuckDB.

Always holds: `decode(encode(m)) == m`; every letter is one of LETTERS. Times are unix seconds, names are as they were
signed (whoever prints them strips control characters).
"""

import msgspec

FREE, BEGUN, CLAIMED, DONE, CHECKED, FAILED = ".", "-", "c", "d", "v", "x"

LETTERS = {
    FREE: "free",
    BEGUN: "begun",
    CLAIMED: "claimed",
    DONE: "done",
    CHECKED: "checked",
    FAILED: "failed",
}
"""What a letter says of a chunk. free: no image has a row, and nobody is at work; begun: some have, and nobody is at
work; claimed: somebody says that he is at work on it; done: every image has a row; checked: done, and a verifier found
some of it right; failed: done, and FAILED_SHARE of its images or more are errors."""

FAILED_SHARE = 10
"""One image in so many: of a thousand addresses on the web a few are always gone, and that is no failed chunk."""

MAX_CLAIMS = 1_000
"""Claims that a map names; nobody reads more, and a swarm may have tens of thousands."""


class StageChunks(msgspec.Struct, frozen=True):
    """The chunks of the stage called `stage`: one letter for each, in their order."""

    stage: str
    letters: str


class ChunkClaim(msgspec.Struct, frozen=True):
    """Somebody's live claim on a chunk. `author` is a peer id, `name` what the author wants to be called; `mine`: this
    node's own. It lapses at `expires`. Of the chunk's `images`, `done` have a row by this author. `idle`: its author
    should have delivered by now, so others may take from it."""

    stage: str
    chunk: int
    author: str
    name: str
    mine: bool
    expires: float
    done: int
    images: int
    idle: bool = False


class ChunkMap(msgspec.Struct, frozen=True):
    """The stages' chunks at the time `published`. `claims` are the live ones, this node's first and then by chunk, at
    most MAX_CLAIMS of `claimed`."""

    published: float
    stages: tuple[StageChunks, ...] = ()
    claims: tuple[ChunkClaim, ...] = ()
    claimed: int = 0


def encode(found: ChunkMap) -> bytes:
    """As JSON, on one line."""
    return msgspec.json.encode(found)


def decode(data: bytes | str) -> ChunkMap:
    """From JSON. Raises msgspec.ValidationError when it is no map, msgspec.DecodeError when it is not JSON."""
    return msgspec.json.decode(data, type=ChunkMap)
