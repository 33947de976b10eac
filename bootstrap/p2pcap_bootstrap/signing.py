"""From a project file and the images that it names to a signed project.

The planners of p2pcap.sources say which images make a chunk. The root is signed once and names the project; every later
signature is the coordinator's.

Always holds: an item list is on disk before the next one is planned, and only the chunk table is in memory; what is
signed has been read back as a volunteer would read it.
"""

import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import trio
from msgspec import UNSET

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.project.items import ItemList, decode_list, encode_list
from p2pcap.project.opened import open_manifest, open_root, payload_hash
from p2pcap.project.records import MAX_CHUNKS, Chunk, FetchRules, Manifest, Plan, Role, Roles, Root
from p2pcap.sources.finding import data_folder
from p2pcap.sources.naming import first
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.planning import plan as plan_images
from p2pcap_bootstrap.checking import check_texts
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.tasks import make_task
from p2pcap_bootstrap.workspace import Signing, Workspace

ROOT_DAYS = 365
DAY = 86_400


def sign(workspace: Workspace, file: ProjectFile, progress: Callable[[int], None]) -> Envelope:
    """Plan and sign the project in `workspace`; returns the manifest's envelope.

    `progress` is called with the number of images planned so far. Raises ConfigError, ModelError, KeyFileError,
    UntrustedError, SourceError; nothing is written then.
    """
    coordinator = Identity.load(workspace.coordinator_key)
    check_texts({"name": file.name, "description": file.description, "license": file.license})
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
