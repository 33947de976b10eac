"""What a node is told when it starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p2pcap.engine.base import EngineSettings
from p2pcap.identity import Identity
from p2pcap.node.manners import Wishes
from p2pcap.node.shares import StoreRole
from p2pcap.project.opened import Project
from p2pcap.project.task import EngineKind
from p2pcap.project.ticket import Ticket
from p2pcap.sources.cache import DEFAULT_CAP
from p2pcap.swarm.settings import SwarmSettings

if TYPE_CHECKING:
    from p2pcap.node.consent import Agree

Role = Literal["volunteer", "observer", "seeder", "coordinator"]
"""volunteer: captions; observer: holds the table and watches; seeder: hands out images that it has; coordinator: signs,
seeds and serves."""

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0",)

DEFAULT_STORE_CAP = 8 * 1024**3
"""Bytes on disk up to which a node keeps all captions."""


@dataclass(frozen=True)
class Seed:
    """What only a coordinator brings: the signed project, its blobs by hash (they may be read from disk as they are
    asked for), the files of its models, and the key that signs checkpoints and stamps (without it none are made).
    `again` reads anew what is signed; it blocks, and raises P2pcapErrors."""

    project: Project
    blobs: Mapping[bytes, bytes]
    files: dict[bytes, Path]
    signer: Identity | None = None
    again: "Callable[[], Seed] | None" = None


@dataclass(frozen=True)
class EngineOptions:
    """What a volunteer lends, and how. `settings` are those of each engine; its `gpus` are all that may be used, none
    named: every one. Without a GPU, `cpu_engines` engines share the CPU. A GPU that is `gpu_temperature` degrees
    Celsius warm takes no new images until it has cooled down, and one that draws more than `gpu_power` watts on average
    rests until it draws less. `remote_code` are the models, by name, whose own Python
    code may run here."""

    settings: EngineSettings = field(default_factory=EngineSettings)
    kind: EngineKind = "vllm"
    cpu_engines: int = 1
    gpu_temperature: int | None = None
    gpu_power: int | None = None
    remote_code: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeOptions:
    """Everything a node needs to know from outside. `directory` holds its key, database, caches and logs. `store` says
    which captions it keeps, `store_cap` how many bytes of them on disk, about. `local_images` is a folder that may hold
    the project's images, with `follow_symlinks` also behind links that lead out of it; `private_hosts` allows the
    private addresses that the project's maintainer names. `outbox` is a folder with signed statements to hand in once
    the project is here. `when_finished` is a command to run when every image has its row, after which the node stays,
    or leaves with `until_done`. `manners` say when a
    volunteer holds back; None: never. `agree` is asked before a volunteer lends anything; None: it was agreed to
    elsewhere."""

    directory: Path
    role: Role
    ticket: Ticket
    listen: tuple[str, ...] = DEFAULT_LISTEN
    peers: tuple[str, ...] = ()
    name: str = ""
    model: Path | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    image_cap: int = DEFAULT_CAP
    local_images: Path | None = None
    follow_symlinks: bool = False
    private_hosts: bool = True
    outbox: Path | None = None
    store: StoreRole = "full"
    store_cap: int = DEFAULT_STORE_CAP
    until_done: bool = False
    when_finished: tuple[str, ...] = ()
    network: SwarmSettings = field(default_factory=SwarmSettings)
    agree: "Agree | None" = None
    manners: Wishes | None = None
    seed: Seed | None = None
