"""A volunteer's first minutes, as a line of stages from the ticket to the first caption.

Pure: what is done is read from a snapshot. Always holds: a stage that was done once stays done, in its order, and is
told once.
"""

from collections.abc import Iterator
from typing import NamedTuple

from p2pcap.cli.amounts import size
from p2pcap.node.options import NodeOptions
from p2pcap.node.snapshot import EngineInfo, NodeSnapshot

DONE, NOW = "✓", "⇣"
SHORT = 12
"""Letters of a key that are shown: its end, where keys differ."""

CAPTION = 200
"""Letters of the first caption that are shown."""

READY = ("ready", "captioning")
SETTLED = ("paused", "finished", "observing", "serving")
"""States in which no first caption is to be waited for."""

IDLE_FOR = 20.0
"""Seconds without work after which none is waited for either."""


class Stage(NamedTuple):
    """A stage: whether it is done, and in words what was, or is being, done."""

    done: bool
    text: str


class Stages:
    """The stages of one node with these options."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self._told = 0
        self._idle_since: float | None = None

    def news(self, snapshot: NodeSnapshot) -> Iterator[str]:
        """The lines of stages that were done since the last look."""
        for stage in stages(snapshot, self._options)[self._told :]:
            if not stage.done:
                return
            self._told += 1
            yield f"{DONE} {stage.text}"

    def current(self, snapshot: NodeSnapshot) -> str | None:
        """The line of the stage that it is at; None when all are done."""
        rest = stages(snapshot, self._options)[self._told :]
        return f"{NOW} {rest[0].text}" if rest else None

    def settled(self, snapshot: NodeSnapshot) -> bool:
        """Whether nothing more of this is to be waited for."""
        if snapshot.node.state != "idle":
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = snapshot.published
        idle = self._idle_since is not None and snapshot.published >= self._idle_since + IDLE_FOR
        return idle or snapshot.node.state in SETTLED or self.current(snapshot) is None


def stages(snapshot: NodeSnapshot, options: NodeOptions) -> list[Stage]:
    """All stages, in their order."""
    found = [Stage(True, f"ticket: {options.ticket.name}"), _reached(snapshot), _manifest(snapshot)]
    if snapshot.node.role == "volunteer":
        found += [_model(snapshot), _engine(snapshot.engine, options), _caption(snapshot.engine)]
    return found


def _reached(snapshot: NodeSnapshot) -> Stage:
    relayed = sum(peer.relayed for peer in snapshot.peers)
    count = len(snapshot.peers)
    how = f" (direct {count - relayed}, relayed {relayed})" if relayed else ""
    have = snapshot.project.images > 0
    if count:
        return Stage(True, f"reached {count} peer{'s' if count > 1 else ''}{how}")
    return Stage(have, "no peer yet; the project is here from before" if have else "looking for a peer")


def _manifest(snapshot: NodeSnapshot) -> Stage:
    project = snapshot.project
    if not project.images:
        return Stage(False, "getting the project from a peer")
    signer = f"…{project.signed_by[-SHORT:]}"
    return Stage(True, f"manifest {project.manifest} signed by {signer}: {project.title}, {project.images} images")


def _model(snapshot: NodeSnapshot) -> Stage:
    engine = snapshot.engine
    if engine.units:
        return Stage(True, f"model {snapshot.project.model}")
    return Stage(False, engine.detail or snapshot.node.state_why or "getting the model")


def _engine(engine: EngineInfo, options: NodeOptions) -> Stage:
    if engine.phase in READY:
        return Stage(True, f"{engine.device or 'engine'} ready: {chosen(engine, options)}")
    return Stage(False, f"engine {engine.phase}" + (f": {engine.detail}" if engine.detail else ""))


def chosen(engine: EngineInfo, options: NodeOptions) -> str:
    """What runs here, as far as the user chose or left it to the node."""
    settings = options.engine.settings
    names = ", ".join(unit.name for unit in engine.units)
    memory = f", {100 * settings.gpu_memory:.0f} % of its memory" if "GPU" in names else ""
    caches = f"images up to {size(options.image_cap)}, captions up to {size(options.store_cap)}"
    return f"{names}{memory}, batch {settings.max_num_seqs}; {caches if options.store == 'full' else options.store}"


def _caption(engine: EngineInfo) -> Stage:
    if engine.first_caption:
        text = engine.first_caption
        return Stage(True, f"first caption: {text if len(text) <= CAPTION else text[: CAPTION - 1] + '…'}")
    return Stage(False, "captioning the first images")
