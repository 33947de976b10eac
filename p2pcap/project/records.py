"""The maintainer's records: root, manifest, plan, item lists.

The root names the keys and is the project: its hash is the project's identity, pinned by every ticket. The manifest
is a small statement by the coordinator's key that names the plan by hash. The plan holds task and chunk table;
each chunk names its item list by hash; each item names its image by hash. So one pinned hash reaches all the bytes.

Always holds: every field has a bound, so a hostile record costs bounded memory before anything trusts it.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.record import Count, Hash, Record, Text
from p2pcap.project.task import Task

Prefix = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
"""The first 8 bytes of the project's hash, at the start of every statement."""

HostName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.:_\[\]-]{1,255}\Z")]

Index = Annotated[int, msgspec.Meta(ge=0, le=31)]

MIN_CHUNK, DEFAULT_CHUNK, MAX_CHUNK = 64, 1_024, 16_384
"""Images in a chunk (docs/protocol.md, Chunks): about ten minutes of one GPU is right."""

SLICE = 64
"""Images in a slice, the unit that is signed and announced: one bit each in a result's coverage mask."""

MAX_CHUNKS = 1_000_000
DEFAULT_ERROR_AUTHORS, MAX_ERROR_AUTHORS = 2, 8
"""One author may be lazy or broken; a second one is rarely the same (docs/protocol.md, The canonical table)."""

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


class Root(Record, frozen=True):
    """The project's root of trust, signed by a root key. SHA-256 of the first version's payload names the project."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    version: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    created: Count
    expires: Count
    keys: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=32)]
    roles: Roles


class Manifest(Record, frozen=True):
    """Names the plan in force. Signed by a coordinator key of the root."""

    m: Prefix
    version: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    created: Count
    expires: Count
    plan: Hash
    length: Count


class Chunk(Record, frozen=True):
    """A row of the chunk table: number of images, and hash and length of the item list."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNK)]
    items: Hash
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNK * 2_048)]


class Policy(Record, frozen=True):
    """The maintainer's rules.

    `wait_for_engines`: captioning starts once this many engines are ready at one time; after the project's first
    result it no longer matters. `attempts`: tries an image gets before it becomes an error row. `error_authors`: how
    many authors must say that an image cannot be captioned before nobody tries it any more; DEFAULT_ERROR_AUTHORS when
    left out.
    """

    wait_for_engines: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    error_authors: Annotated[int, msgspec.Meta(ge=1, le=MAX_ERROR_AUTHORS)] | UnsetType = UNSET

    @property
    def authors_for_error(self) -> int:
        """Distinct authors that make an error final."""
        return DEFAULT_ERROR_AUTHORS if self.error_authors is UNSET else self.error_authors


class FetchRules(Record, frozen=True):
    """How images are fetched from the web, where a project's images are there.

    `hosts`: names ("host" or "host:port") that may lie at private addresses; a volunteer may refuse them. `robots`:
    whether robots.txt is asked and obeyed, and `X-Robots-Tag` with it. `image`: bytes of an image at most.
    """

    hosts: Annotated[tuple[HostName, ...], msgspec.Meta(max_length=16)] = ()
    robots: bool = True
    image: Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)] = 32 * 1024 * 1024


class Plan(Record, frozen=True):
    """The body of a manifest: what is captioned, how, and in which pieces."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    task: Task
    chunks: Annotated[tuple[Chunk, ...], msgspec.Meta(min_length=1, max_length=MAX_CHUNKS)]
    policy: Policy = Policy()
    description: Text = ""
    license: Annotated[str, msgspec.Meta(max_length=128)] = ""
    fetch: FetchRules | UnsetType = UNSET

    @property
    def fetch_rules(self) -> FetchRules:
        """How images are fetched from the web."""
        return FetchRules() if self.fetch is UNSET else self.fetch
