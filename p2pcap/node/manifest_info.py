"""What the maintainer signed, for people: the value that a front end shows of a manifest. It changes only with the
manifest, so it is asked for by itself and is no part of a snapshot.

Nothing heavy is imported here, as in p2pcap.node.snapshot. Always holds: `decode(encode(m)) == m`. Times are unix
seconds, keys are peer ids, texts are as they were signed (whoever prints them strips control characters).
"""

import msgspec


class PromptDetail(msgspec.Struct, frozen=True):
    """One question about each image. `system` goes before it and may be empty; `tokens` are those of its answer at
    most; `image`: whether the model is shown the image."""

    name: str
    text: str
    system: str = ""
    tokens: int = 0
    temperature: float = 0.0
    image: bool = True


class StageDetail(msgspec.Struct, frozen=True):
    """A stage. `task` is its task's id in hex; `revision` the model's commit, empty for a model of `files` that travel
    through the swarm and have `bytes` together. `edge` is the longest edge of an image in pixels, 0: as it is. `needs`
    are stages whose answers it uses, `keeps` earlier tasks whose answers it leaves as they are. `audit` says how its
    captions are checked, and is empty where nobody does."""

    name: str
    task: str
    model: str
    revision: str = ""
    files: int = 0
    bytes: int = 0
    edge: int = 0
    dtype: str = "auto"
    quantization: str = ""
    prompts: tuple[PromptDetail, ...] = ()
    needs: tuple[str, ...] = ()
    keeps: int = 0
    paused: bool = False
    audit: str = ""


class KeyDetail(msgspec.Struct, frozen=True):
    """Keys of a role, as many of which must sign as `threshold` says."""

    role: str
    threshold: int
    keys: tuple[str, ...]


class ManifestInfo(msgspec.Struct, frozen=True):
    """A manifest in force, with its root and plan.

    `id` is the first root's hash in hex: what a ticket pins. `name` is the root's, `title` the plan's. `signed_by`
    signed the manifest. `expires` is when the first of root and manifest does: from then on nobody can join, and from
    `ends` on nothing is captioned. `license` is that of the captions. `admission` is invite, allowlist or open. Of the
    volunteers' own items one in `peer_audits` has them check one of others', 0: none. `deadline`: no new work after
    it, None: without. `hosts` may lie at private addresses. `former` are earlier tasks whose captions stay.
    """

    id: str
    name: str
    title: str
    description: str
    license: str
    version: int
    created: int
    expires: int
    ends: int
    root_version: int
    root_expires: int
    manifest_expires: int
    signed_by: str
    keys: tuple[KeyDetail, ...]
    verifiers: tuple[str, ...]
    former_keys: tuple[str, ...]
    admission: str
    wait_for_engines: int
    attempts: int
    error_authors: int
    peer_audits: int
    bans: bool
    stages: tuple[StageDetail, ...]
    images: int
    chunks: int
    former: int = 0
    deadline: int | None = None
    paused: bool = False
    hosts: tuple[str, ...] = ()
    robots: bool = True


def encode(found: ManifestInfo) -> bytes:
    """As JSON, on one line."""
    return msgspec.json.encode(found)


def decode(data: bytes | str) -> ManifestInfo:
    """From JSON. Raises msgspec.ValidationError when it is none, msgspec.DecodeError when it is not JSON."""
    return msgspec.json.decode(data, type=ManifestInfo)
