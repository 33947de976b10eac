"""The maintainer's records: root, manifest, plan, item lists.

The first root names the keys and is the project: its hash is the project's identity, pinned by every ticket. Later
roots change the keys, each signed by the one before it. The manifest is a small statement by a coordinator's key that
names the plan by XX
Always holds: every field has a bound, so a hostile record costs bounded memory before anything trusts it.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.audit import Audit
from p2pcap.project.record import Count, Hash, Record, Text
from p2pcap.project.task import PromptName, Task

Prefix = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
"""The first 8 bytes of the project's hash, at the start of every statement."""

HostName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.:_\[\]-]{1,255}\Z")]

TaskId = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
"""The first 8 bytes of SHA-256 over a task's encoding (p2pcap.project.task)."""

Index = Annotated[int, msgspec.Meta(ge=0, le=31)]

MIN_CHUNK, DEFAULT_CHUNK, MAX_CHUNK = 64, 1_024, 16_384
"""Images in a chunk (docs/protocol.md, Chunks): about ten minutes of one GPU is right."""

MAX_ROOTS = 1_048_576
"""Bytes of all versions of a root with their signatures."""

Admission = Literal["invite", "allowlist", "open"]

SLICE = 64
"""Images in a slice, the unit that is signed and announced: one bit each in a result's coverage mask."""

MAX_CHUNKS = 1_000_000

MAX_LIST = MAX_CHUNK * 2_048
"""Bytes of an item list."""

PAGE = 1_024
"""Rows of a page of the chunk table: larger ones would make a joiner fetch more, smaller ones have more hashes."""

ROW = 36
"""Bytes of a row: SHA-256 of an item list, and its length in four bytes, the highest first."""

DEFAULT_PEER_AUDITS, MAX_PEER_AUDITS = 512, 1_000_000
"""For so many items of its own a volunteer's node checks one of others'. A verifier's lies are seen by that; a check
costs no more than a caption, so it takes a five-hundredth of the work at most."""

DEFAULT_ERROR_AUTHORS, MAX_ERROR_AUTHORS = 2, 8
"""One author may be lazy or broken; a second one is rarely the same (docs/protocol.md, The canonical table)."""

MAX_STAGES, MAX_FORMER_TASKS = 16, 64
"""Stages of a plan, and tasks of earlier plans whose results are still part of the table."""

MAX_FORMER_KEYS = 16

MAX_VERIFIERS = 64
"""Verifiers that a plan names, beside those of the root."""

MAX_MODEL = 256 * 1024 * 1024
"""Bytes of all files of a model that travels through the swarm; a bigger one belongs on the Hub."""


class Role(Record, frozen=True):
    """Who may act: `threshold` of these keys (indexes into the root's `keys`)."""

    keys: Annotated[tuple[Index, ...], msgspec.Meta(min_length=1, max_length=16)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


class Roles(Record, frozen=True):
    """Who signs what. A role that is left out is the coordinator's."""

    root: Role
    coordinator: Role
    checkpoint: Role | UnsetType = UNSET
    verifier: Role | UnsetType = UNSET


class FormerKey(Record, frozen=True):
    """A key that signed as coordinator or for checkpoints and does no more. What it signed counts as far as it is
    sealed by a checkpoint up to number `checkpoint`, which has the hash `hash`; 0 and zeros: nothing of it does."""

    key: Hash
    checkpoint: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    hash: Hash


class Root(Record, frozen=True):
    """The project's root of trust. SHA-256 of the first version's payload names the project; each later version is
    signed by as many root keys of the version before it as that one asks, and by as many of its own as it asks.
    `before` is SHA-256 of the payload of the version before; the first has none."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    version: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    created: Count
    expires: Count
    keys: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=32)]
    roles: Roles
    former: Annotated[tuple[FormerKey, ...], msgspec.Meta(max_length=MAX_FORMER_KEYS)] | UnsetType = UNSET
    before: Hash | UnsetType = UNSET


class RootChain(Record, frozen=True):
    """Which root is in force, by its version, and the hash and length of the blob with all versions from 1 on."""

    version: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    hash: Hash
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROOTS)]


class Manifest(Record, frozen=True):
    """Names the plan in force, and the root. Signed by a coordinator key of that root. Without `roots` it is the first
    one, which one signature is enough for."""

    m: Prefix
    version: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    created: Count
    expires: Count
    plan: Hash
    length: Count
    roots: RootChain | UnsetType = UNSET


class ChunkTable(Record, frozen=True):
    """The images by chunks (p2pcap.project.chunks). `counts` is a zstandard frame over the number of images of each
    chunk, two bytes each, the lowest first. `pages` are the hashes of the full pages, `rows` the rows behind them."""

    counts: Annotated[bytes, msgspec.Meta(min_length=1, max_length=2 * MAX_CHUNKS + 1_024)]
    pages: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_CHUNKS // PAGE)]
    rows: Annotated[bytes, msgspec.Meta(max_length=(PAGE - 1) * ROW)]


class Policy(Record, frozen=True):
    """The maintainer's rules.

    `wait_for_engines`: captioning starts once this many engines are ready at one time; after the project's first
    result it no longer matters. `attempts`: tries an image gets before it becomes an error row. `error_authors`: how
    many authors must say that an image cannot be captioned before nobody tries it any more; DEFAULT_ERROR_AUTHORS when
    left out. `admission`: who may write results: whom the coordinator admits and nobody else ("allowlist"), also who
    has an invitation ("invite", when left out), or also who solves a puzzle ("open"). `peer_audits`: for so many items
    of its own a volunteer's node checks one of others'; 0 for none; DEFAULT_PEER_AUDITS when left out.
    `bans`: whether the coordinator's node bans by itself whom verifiers found wrong too often (p2pcap.ledger.due); true
    when left out.
    """

    wait_for_engines: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    error_authors: Annotated[int, msgspec.Meta(ge=1, le=MAX_ERROR_AUTHORS)] | UnsetType = UNSET
    admission: Admission | UnsetType = UNSET
    peer_audits: Annotated[int, msgspec.Meta(ge=0, le=MAX_PEER_AUDITS)] | UnsetType = UNSET
    bans: bool | UnsetType = UNSET

    @property
    def checks_one_in(self) -> int:
        """For how many items of its own a volunteer's node checks one of others'; 0: none."""
        return DEFAULT_PEER_AUDITS if self.peer_audits is UNSET else self.peer_audits

    @property
    def authors_for_error(self) -> int:
        """Distinct authors that make an error final."""
        return DEFAULT_ERROR_AUTHORS if self.error_authors is UNSET else self.error_authors

    @property
    def admits(self) -> Admission:
        """Who may write results."""
        return "invite" if self.admission is UNSET else self.admission


class FetchRules(Record, frozen=True):
    """How images are fetched from the web, where a project's images are there.

    `hosts`: names ("host" or "host:port") that may lie at private addresses; a volunteer may refuse them. `robots`:
    whether robots.txt is asked and obeyed, and `X-Robots-Tag` with it. `image`: bytes of an image at most.
    """

    hosts: Annotated[tuple[HostName, ...], msgspec.Meta(max_length=16)] = ()
    robots: bool = True
    image: Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)] = 32 * 1024 * 1024


class Stage(Record, frozen=True):
    """One of the plan's tasks, by a name that other stages and people use. `paused`: nobody works on it. `keeps`: tasks
    whose answers it leaves as they are: an image that has one there is not asked about here. `audit`: how its answers
    are checked; without it nobody checks them."""

    name: PromptName
    task: Task
    paused: bool | UnsetType = UNSET
    keeps: Annotated[tuple[TaskId, ...], msgspec.Meta(min_length=1, max_length=MAX_STAGES)] | UnsetType = UNSET
    audit: Audit | UnsetType = UNSET


class Plan(Record, frozen=True):
    """The body of a manifest: what is captioned, how, and in which pieces.

    Volunteers work on the first stage that has work for them. `former` are the tasks of earlier plans: their results
    stay. Chunks are only ever added at the end. `paused`: nobody works on anything. After `deadline`, in unix seconds,
    no new work is begun. `verifiers`: keys whose verdicts count beside those of the root's role.
    """

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1, max_length=MAX_STAGES)]
    chunks: ChunkTable
    policy: Policy = Policy()
    description: Text = ""
    license: Annotated[str, msgspec.Meta(max_length=128)] = ""
    fetch: FetchRules | UnsetType = UNSET
    former: Annotated[tuple[Task, ...], msgspec.Meta(max_length=MAX_FORMER_TASKS)] | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    deadline: Count | UnsetType = UNSET
    verifiers: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=MAX_VERIFIERS)] | UnsetType = UNSET

    @property
    def fetch_rules(self) -> FetchRules:
        """How images are fetched from the web."""
        return FetchRules() if self.fetch is UNSET else self.fetch
