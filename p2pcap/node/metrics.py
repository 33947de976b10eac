"""A node's numbers in Prometheus' text format, made from its snapshot.

Always holds: every series carries the project and the node's role, so that several nodes of one machine can share a
target; no label has a value that a stranger chose, so the number of series is bounded.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from p2pcap.node.snapshot import EngineUnit, NodeSnapshot, PeerInfo

Value = Callable[[NodeSnapshot], float | None]

GAUGES: dict[str, tuple[str, Value]] = {
    "p2pcap_start_time_seconds": ("When the node started, in unix seconds.", lambda s: s.node.started),
    "p2pcap_event_loop_lag_seconds": (
        "How late the event loop was at most in the last minute.",
        lambda s: s.node.loop_lag,
    ),
    "p2pcap_images": ("Images of the project.", lambda s: s.project.images),
    "p2pcap_images_done": ("Images that have a row, as this node counts.", lambda s: s.project.done),
    "p2pcap_images_failed": ("Images whose row is an error.", lambda s: s.project.errors),
    "p2pcap_rows_held": ("Rows that are kept on this node.", lambda s: s.project.held),
    "p2pcap_images_held": ("Image files that are kept on this node.", lambda s: s.fetch.images),
    "p2pcap_checkpoint": ("Number of the newest checkpoint taken.", lambda s: s.project.checkpoint),
    "p2pcap_statements": ("Signed statements on disk.", lambda s: s.store.statements),
    "p2pcap_statements_waiting": ("Accepted statements that are not on disk yet.", lambda s: s.store.waiting),
    "p2pcap_bodies_missing": ("Results whose captions are being fetched.", lambda s: s.store.bodies_missing),
    "p2pcap_store_bytes": ("Size of the database file.", lambda s: s.store.bytes),
    "p2pcap_engine_ready": (
        "Whether the engine is ready: 0 or 1.",
        lambda s: float(s.engine.phase in ("ready", "captioning")),
    ),
    "p2pcap_engine_images_per_second": ("Images captioned a second lately.", lambda s: s.engine.rate),
    "p2pcap_engine_images_in_flight": ("Images the engine has in hand.", lambda s: s.engine.in_flight),
    "p2pcap_engine_tokens_per_second": ("Tokens made a second lately.", lambda s: s.engine.tokens),
    "p2pcap_engines_ready": ("Ready engines in the swarm, this node's included.", lambda s: s.engines_ready),
    "p2pcap_connections_limit": ("Connections in all, at most.", lambda s: s.network.max_connections),
    "p2pcap_relays_held": ("Relays that hold a place for this node.", lambda s: len(s.network.relays)),
    "p2pcap_circuits": ("Connections between others that this node carries.", lambda s: s.network.circuits),
    "p2pcap_peers_known": ("Peers remembered for dialling.", lambda s: s.network.known),
    "p2pcap_peers_banned": ("Peers that are banned now.", lambda s: s.network.banned),
    "p2pcap_sync_timestamp_seconds": (
        "When statements were last compared with a peer and equal in the end, in unix seconds.",
        lambda s: s.network.synced,
    ),
}

UNIT_GAUGES: dict[str, tuple[str, Callable[[EngineUnit], float | None]]] = {
    "p2pcap_engine_unit_ready": (
        "Whether one engine is ready, resting ones included: 0 or 1.",
        lambda unit: float(unit.phase in ("ready", "resting")),
    ),
    "p2pcap_engine_unit_resting": (
        "Whether it takes no images because its GPU is too hot: 0 or 1.",
        lambda unit: float(unit.phase == "resting"),
    ),
    "p2pcap_engine_unit_images_per_second": ("Images it captioned a second lately.", lambda unit: unit.rate),
    "p2pcap_engine_unit_tokens_per_second": ("Tokens it made a second lately.", lambda unit: unit.tokens),
    "p2pcap_engine_unit_requests_running": ("Requests in its batch.", lambda unit: unit.running),
    "p2pcap_engine_unit_requests_waiting": ("Requests before its batch.", lambda unit: unit.waiting),
    "p2pcap_engine_unit_cache_used_ratio": ("Share of its memory for keys and values in use.", lambda unit: unit.kv),
    "p2pcap_engine_unit_power_watts": ("Power that its GPUs draw.", lambda unit: unit.power),
    "p2pcap_engine_unit_power_limit_watts": ("Power that its GPUs may draw.", lambda unit: unit.power_limit),
    "p2pcap_engine_unit_temperature_celsius": ("Temperature of its warmest GPU.", lambda unit: unit.temperature),
    "p2pcap_engine_unit_busy_ratio": ("Share of the time in which its GPUs compute.", lambda unit: unit.busy),
}
"""A series for each engine, labelled with its place among them."""

COUNTERS: dict[str, tuple[str, Value]] = {
    "p2pcap_engine_restarts": ("Times the engine was started again.", lambda s: s.engine.restarts),
    "p2pcap_network_sent_bytes": ("Bytes sent on all connections.", lambda s: s.network.sent),
    "p2pcap_network_received_bytes": ("Bytes received on all connections.", lambda s: s.network.received),
    "p2pcap_content_sent_bytes": ("Bytes of content served, relayed ones among them.", lambda s: s.network.uploaded),
    "p2pcap_content_received_bytes": ("Bytes of content fetched.", lambda s: s.network.downloaded),
    "p2pcap_relayed_bytes": ("Bytes carried between others.", lambda s: s.network.carried),
}

COUNTED: dict[str, tuple[str, str, str]] = {
    "gossip": ("p2pcap_gossip_messages", "Gossip messages by verdict.", "verdict"),
    "asked": ("p2pcap_requests_sent", "Requests of this node to peers.", "outcome"),
    "served": ("p2pcap_requests_served", "Requests of peers to this node.", "outcome"),
    "reconciliations": ("p2pcap_reconciliations", "Reconciliations this node began.", "outcome"),
    "dials": ("p2pcap_dials", "Addresses dialled.", "outcome"),
    "connections": ("p2pcap_connections_ended", "Connections that this node refused or closed.", "reason"),
}
"""For each `CountInfo.what`: the metric, what it says, and the label that the outcome becomes."""


def exposition(snapshot: NodeSnapshot) -> str:
    """The snapshot as Prometheus text (version 0.0.4 of its exposition format)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(snapshot))
    return generate_latest(registry).decode()


def _way(peer: PeerInfo) -> str:
    return "relay" if peer.relayed else "direct"


class _Numbers(Collector):
    def __init__(self, snapshot: NodeSnapshot) -> None:
        self._snapshot = snapshot
        self._own = {"project": snapshot.project.id[:16], "role": snapshot.node.role}

    def collect(self) -> Iterable[Metric]:
        yield self._gauge("p2pcap_info", "The node's program.", [({"version": self._snapshot.node.version}, 1)])
        for name, (text, value) in GAUGES.items():
            if (number := value(self._snapshot)) is not None:
                yield self._gauge(name, text, [({}, number)])
        for name, (text, of) in UNIT_GAUGES.items():
            told = [(number, of(unit)) for number, unit in enumerate(self._snapshot.engine.units)]
            if values := [({"engine": str(number)}, it) for number, it in told if it is not None]:
                yield self._gauge(name, text, values)
        for name, (text, value) in COUNTERS.items():
            yield self._counter(name, text, [({}, value(self._snapshot) or 0)])
        yield self._gauge("p2pcap_peers", "Connected peers.", self._peers())
        for what, (name, text, label) in COUNTED.items():
            yield self._counter(name, text, self._counts(what, label))

    def _peers(self) -> list[tuple[dict[str, str], float]]:
        peers = self._snapshot.peers
        ways: Counter[tuple[str, str]] = Counter((peer.direction, _way(peer)) for peer in peers)
        known = [(direction, way) for direction in ("in", "out") for way in ("direct", "relay")]
        return [({"direction": direction, "way": way}, ways[direction, way]) for direction, way in known]

    def _counts(self, what: str, label: str) -> list[tuple[dict[str, str], float]]:
        counts = [count for count in self._snapshot.counts if count.what == what]
        return [({label: one.outcome} | ({"request": one.name} if one.name else {}), one.times) for one in counts]

    def _gauge(self, name: str, text: str, values: list[tuple[dict[str, str], float]]) -> Metric:
        family = GaugeMetricFamily(name, text)
        for labels, value in values:
            family.add_sample(name, self._own | labels, value)
        return family

    def _counter(self, name: str, text: str, values: list[tuple[dict[str, str], float]]) -> Metric:
        family = CounterMetricFamily(name, text)
        for labels, value in values:
            family.add_sample(f"{name}_total", self._own | labels, value)
        return family
