"""From a project file and a folder of images to a signed project.

Planning is a pure function of the list of images: chunks of equal size in the order of their keys. The root is signed
once and names the project; every later signature is the coordinator's.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import CodecError, ConfigError, ModelError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.node.models import list_model
from p2pcap.project.opened import open_manifest, open_root, payload_hash
from p2pcap.project.records import MAX_CHUNKS, MAX_MODEL, Chunk, Item, Manifest, Plan, Role, Roles, Root
from p2pcap.project.task import Model, Sampling, Task
from p2pcap.sources.folder import scan
from p2pcap_bootstrap.config import ProjectFile, milli
from p2pcap_bootstrap.workspace import Workspace

ROOT_DAYS = 365
DAY = 86_400
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
MAX_ANSWER_TOKENS = 65_536
"""Prompts times max_tokens: what one image may generate, so that its row always fits a body."""


def sign(workspace: Workspace, file: ProjectFile, progress: Callable[[int], None]) -> Envelope:
    """Plan and sign the project in `workspace`; returns the manifest's envelope.

    `progress` is called with the number of images hashed so far. Raises ConfigError, ModelError, KeyFileError,
    UntrustedError; nothing is written then.
    """
    coordinator = Identity.load(workspace.coordinator_key)
    task = make_task(file, workspace.directory)
    root = workspace.root() or _sign_root(file, Identity.load(workspace.root_key), coordinator)
    blobs: dict[bytes, bytes] = {}
    chunks = tuple(_chunk(items, blobs) for items in _runs(_images(workspace, file, progress), file.chunk))
    if not chunks:
        raise ConfigError(f"There is no image in {file.images}. Check `images` in project.yaml.")
    if len(chunks) > MAX_CHUNKS:
        raise ConfigError(
            f"The images make {len(chunks)} chunks; {MAX_CHUNKS} are allowed. Raise `chunk` in project.yaml."
        )
    plan = Plan(file.name, task, chunks, file.policy, file.description, file.license)
    manifest = _sign_manifest(workspace, root, coordinator, plan, blobs, file.expires_days)
    workspace.write(root, manifest, blobs)
    return manifest


def _images(workspace: Workspace, file: ProjectFile, progress: Callable[[int], None]) -> Iterator[Item]:
    for number, (item, _) in enumerate(scan(workspace.directory / Path(file.images).expanduser()), 1):
        progress(number)
        yield item


def _runs(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    run: list[Item] = []
    for item in items:
        run.append(item)
        if len(run) == size:
            yield run
            run = []
    if run:
        yield run


def _chunk(items: Sequence[Item], blobs: dict[bytes, bytes]) -> Chunk:
    data = encode(items)
    hash_ = hashlib.sha256(data).digest()
    blobs[hash_] = data
    return Chunk(len(items), hash_, len(data))


def _sign_root(file: ProjectFile, root_key: Identity, coordinator: Identity) -> Envelope:
    now = int(time.time())
    roles = Roles(Role((0,)), Role((1,)))
    keys = (root_key.public, coordinator.public)
    return seal(root_key, "root", Root(file.name, 1, now, now + ROOT_DAYS * DAY, keys, roles))


def _sign_manifest(
    workspace: Workspace, root: Envelope, coordinator: Identity, plan: Plan, blobs: dict[bytes, bytes], days: int
) -> Envelope:
    project = payload_hash(root)
    opened = open_root(root, project)
    held = workspace.manifest()
    version = open_manifest(held, opened, project).version + 1 if held is not None else 1
    if coordinator.public not in {opened.keys[index] for index in opened.roles.coordinator.keys}:
        raise UntrustedError(
            "keys/coordinator.key is not the key that the project's root names. Restore the right one."
        )
    data = encode(plan)
    try:
        decode(data, Plan, MAX_BLOB)
    except CodecError as error:
        raise ConfigError(f"The project goes beyond the protocol's limits: {error} Change project.yaml.") from error
    if held is not None and workspace.node.exists():
        _check_unchanged(workspace, plan)
    hash_ = hashlib.sha256(data).digest()
    blobs[hash_] = data
    now = int(time.time())
    return seal(coordinator, "manifest", Manifest(project[:8], version, now, now + days * DAY, hash_, len(data)))


def _check_unchanged(workspace: Workspace, plan: Plan) -> None:
    """Raises ConfigError when a project that was served would get other images or another task.

    Captions are known by chunk and place, so a changed list would give them to other images.
    """
    served = workspace.project().plan
    if (served.task, served.chunks) != (plan.task, plan.chunks):
        raise ConfigError(
            "The images or the task have changed since this project was served. Make a new project for them with "
            "p2pcap project init; this one can be signed again only to prolong it."
        )


def make_task(file: ProjectFile, base: Path) -> Task:
    """The task that `file` describes; relative paths are taken from `base`. Raises ModelError, ConfigError."""
    names = [prompt.name for prompt in file.prompts]
    if len(set(names)) != len(names):
        raise ConfigError(
            "Two prompts in project.yaml have the same name. Give each its own: it is a column in exports."
        )
    if len(names) * file.sampling.max_tokens > MAX_ANSWER_TOKENS:
        raise ConfigError(f"Prompts times max_tokens is over {MAX_ANSWER_TOKENS}. Lower sampling.max_tokens.")
    sampling = Sampling(
        file.sampling.max_tokens,
        milli(file.sampling.temperature),
        milli(file.sampling.top_p),
        milli(file.sampling.repetition_penalty),
        file.sampling.seed,
        file.sampling.stop,
    )
    return Task(
        find_model(file.model, file.revision, base),
        file.prompts,
        sampling,
        file.dtype,
        file.quantization,
        file.system,
        file.image_edge,
        file.max_model_len,
    )


def find_model(name: str, revision: str, base: Path) -> Model:
    """The model named in a project file: a directory, listed by hash, or a pinned one on the Hub. Raises ModelError."""
    directory = base / Path(name).expanduser()
    if os.path.isdir(directory):
        files = list_model(directory)
        if sum(file.length for file in files) > MAX_MODEL:
            raise ModelError(f"{directory} has over {MAX_MODEL >> 20} MiB: too much to hand round. Put it on the Hub.")
        return Model(directory.resolve().name, "", files)
    if not HUB_NAME.match(name) or name.startswith("."):
        raise ModelError(f"{name} is neither a model directory nor a name on the Hub (owner/model). Check `model`.")
    return Model(name, revision or _newest_revision(name))


def _newest_revision(name: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(name, timeout=30).sha)
    except Exception as error:  # the Hub's client lets the errors of its HTTP library through
        raise ModelError(
            f"The Hub does not tell the revision of {name} ({type(error).__name__}). If it is a directory, check the "
            "path; if it is on the Hub, check the network or give `revision`, the 40-hex commit."
        ) from error
