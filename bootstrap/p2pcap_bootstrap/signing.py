"""From a project file and the images that it names to a signed project.

The planners of p2pcap.sources say which images make a chunk. The root is signed once and names the project; every later
signature is the coordinator's.

Always holds: an item list is on disk before the next one is planned, and only the chunk table is in memory; what is
signed has been read back as a volunteer would read it.
"""

import difflib
import os
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import trio
from msgspec import UNSET

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import CodecError, ConfigError, ModelError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.node.models import list_model
from p2pcap.project.items import ItemList, decode_list, encode_list
from p2pcap.project.opened import open_manifest, open_root, payload_hash
from p2pcap.project.prompts import fields_in
from p2pcap.project.records import MAX_CHUNKS, MAX_MODEL, Chunk, FetchRules, Manifest, Plan, Role, Roles, Root
from p2pcap.project.task import Model, Sampling, Task
from p2pcap.sources.finding import data_folder
from p2pcap.sources.naming import first
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.planning import plan as plan_images
from p2pcap_bootstrap.config import ProjectFile, milli
from p2pcap_bootstrap.workspace import Signing, Workspace

ROOT_DAYS = 365
DAY = 86_400
PLACE = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
"""What looks like a place for a field in a prompt."""

HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
MAX_ANSWER_TOKENS = 65_536
"""Prompts times max_tokens: what one image may generate, so that its row always fits a body."""


def sign(workspace: Workspace, file: ProjectFile, progress: Callable[[int], None]) -> Envelope:
    """Plan and sign the project in `workspace`; returns the manifest's envelope.

    `progress` is called with the number of images planned so far. Raises ConfigError, ModelError, KeyFileError,
    UntrustedError, SourceError; nothing is written then.
    """
    coordinator = Identity.load(workspace.coordinator_key)
    task, rules = make_task(file, workspace.directory), fetch_rules(file)
    with workspace.signing() as signing:
        root = workspace.root() or _sign_root(file, Identity.load(workspace.root_key), coordinator)
        lists = Lists(signing)
        _plan_lists(workspace.directory, file, lists, progress)
        fetch = rules if lists.elsewhere else UNSET
        plan = Plan(file.name, task, tuple(lists.chunks), file.policy, file.description, file.license, fetch)
        manifest = _sign_manifest(workspace, root, coordinator, plan, signing, file.expires_days)
        signing.keep(root, manifest)
    return manifest


def fetch_rules(file: ProjectFile) -> FetchRules:
    """How the project's images are fetched where they are on the web. Raises ConfigError."""
    rules = FetchRules(file.source.hosts, file.source.robots)
    try:
        return decode(encode(rules), FetchRules, 10_000)
    except CodecError as error:
        raise ConfigError(
            f"images.hosts in project.yaml goes beyond the limits: {error} Name at most 16 hosts."
        ) from error


def _plan_lists(base: Path, file: ProjectFile, lists: "Lists", progress: Callable[[int], None]) -> None:
    try:
        trio.run(_write_lists, base, file, lists, progress)
    except BaseExceptionGroup as group:
        raise first(group) from group
    if not lists.chunks:
        raise ConfigError(f"There is no image in {file.source.source}. Check `images` in project.yaml.")


async def _write_lists(base: Path, file: ProjectFile, lists: "Lists", progress: Callable[[int], None]) -> None:
    """Plan the images and keep their lists."""
    access = Access(fetch_rules(file), trusted=True, follow_symlinks=file.source.follow_symlinks)
    async with open_files(data_folder(base, file.source), access) as files:
        async with aclosing(plan_images(files, base, file.source, file.chunk, progress)) as planned:
            async for found in planned:
                await trio.to_thread.run_sync(lists.add, found)


class Lists:
    """The chunk table of a project that is being planned. `elsewhere`: some images are read from the Hub or the web."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing
        self.chunks: list[Chunk] = []
        self.elsewhere = False

    def add(self, found: ItemList) -> None:
        """Write a chunk's item list. Raises ConfigError when there are too many, or it goes beyond a limit."""
        if len(self.chunks) == MAX_CHUNKS:
            raise ConfigError(f"The images make over {MAX_CHUNKS} chunks. Raise `chunk` in project.yaml.")
        data = encode_list(found)
        chunk = Chunk(len(found.items), self._signing.put(data), len(data))
        try:
            decode(encode(chunk), Chunk, 1_024)
            decode_list(data, MAX_BLOB)
        except CodecError as error:
            key = found.items[0].key
            raise ConfigError(
                f"The chunk of {key!r} is beyond the protocol's limits: {error} Lower `chunk`, or name fewer fields."
            ) from error
        self.chunks.append(chunk)
        self.elsewhere |= not found.travels(found.items[0])


def _sign_root(file: ProjectFile, root_key: Identity, coordinator: Identity) -> Envelope:
    now = int(time.time())
    roles = Roles(Role((0,)), Role((1,)))
    keys = (root_key.public, coordinator.public)
    return seal(root_key, "root", Root(file.name, 1, now, now + ROOT_DAYS * DAY, keys, roles))


def _sign_manifest(
    workspace: Workspace, root: Envelope, coordinator: Identity, plan: Plan, signing: Signing, days: int
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
    hash_ = signing.put(data)
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
        _fields_asked(file) or UNSET,
    )


def _fields_asked(file: ProjectFile) -> tuple[str, ...]:
    """The fields of an image that prompts have a place for. The others bear on no caption, so a task has no need of
    them. Raises ConfigError for a place whose name is nearly that of a field."""
    names = tuple(dict.fromkeys((*file.source.fields, *filter(None, [file.source.caption_field]))))
    texts = (file.system, *(prompt.text for prompt in file.prompts))
    for word in (word for text in texts for word in PLACE.findall(text) if word not in names):
        if near := difflib.get_close_matches(word, names, n=1):
            raise ConfigError(
                f"A prompt has a place for {{{word}}}, which is not in images.fields; did you mean {{{near[0]}}}?"
            )
    return tuple(dict.fromkeys(name for text in texts for name in fields_in(text, names)))


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
