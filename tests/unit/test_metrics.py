"""Metrics: what a Prometheus reads from them is what the snapshot says."""

import re

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2pcap.node.metrics import COUNTED, COUNTERS, GAUGES, exposition
from p2pcap.node.snapshot import CountInfo, NetworkInfo, NodeSnapshot, PeerInfo, StoreInfo
from tests.unit.control_node import SNAPSHOT

BUSY = msgspec.structs.replace(
    SNAPSHOT,
    peers=(
        PeerInfo("12D3KooWA", "/ip4/192.0.2.1/tcp/1", direction="in"),
        PeerInfo("12D3KooWB", "", 'evil"} 1\n', direction="in", relayed=True),
        PeerInfo("12D3KooWC", ""),
        PeerInfo("12D3KooWD", ""),
    ),
    network=NetworkInfo(sent=10**12, uploaded=7, synced=1_800_000_000.5, relays=("12D3KooWA",), banned=2),
    store=StoreInfo(statements=12, waiting=3, bytes=4_096),
    counts=(
        CountInfo("gossip", "accept", 40),
        CountInfo("gossip", "ignore", 2),
        CountInfo("served", "ok", 9, "status"),
        CountInfo("served", "refused", 1, "image"),
        CountInfo("connections", "trimmed", 5),
    ),
)


def read(snapshot: NodeSnapshot) -> dict[str, float]:
    """Each series by its name and its own labels."""
    found = {}
    for family in text_string_to_metric_families(exposition(snapshot)):
        assert family.documentation.endswith(".")
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name not in ("project", "role")}
            assert (sample.labels["project"], sample.labels["role"]) == ("ab" * 8, "volunteer")
            found[sample.name + "".join(f" {name}={value}" for name, value in sorted(labels.items()))] = sample.value
    return found


@pytest.mark.parametrize("snapshot", [SNAPSHOT, BUSY])
def test_every_number_is_there_and_a_prometheus_can_read_it(snapshot: NodeSnapshot) -> None:
    found = {name.partition(" ")[0] for name in read(snapshot)}
    assert found >= {*GAUGES, *(f"{name}_total" for name in COUNTERS), "p2pcap_info", "p2pcap_peers"}


def test_what_is_not_known_is_left_out() -> None:
    fresh = msgspec.structs.replace(SNAPSHOT, network=NetworkInfo())
    assert "p2pcap_sync_timestamp_seconds" not in read(fresh)


def test_the_numbers_are_the_snapshot_s() -> None:
    found = read(BUSY)
    expected = {
        "p2pcap_info version=0.1.0": 1,
        "p2pcap_images": 128,
        "p2pcap_images_done": 66,
        "p2pcap_images_failed": 1,
        "p2pcap_engine_ready": 1,
        "p2pcap_engine_images_per_second": 3.25,
        "p2pcap_engine_images_in_flight": 64,
        "p2pcap_engine_restarts_total": 1,
        "p2pcap_peers direction=in way=direct": 1,
        "p2pcap_peers direction=in way=relay": 1,
        "p2pcap_peers direction=out way=direct": 2,
        "p2pcap_peers direction=out way=relay": 0,
        "p2pcap_network_sent_bytes_total": 1e12,
        "p2pcap_content_sent_bytes_total": 7,
        "p2pcap_sync_timestamp_seconds": 1_800_000_000.5,
        "p2pcap_relays_held": 1,
        "p2pcap_peers_banned": 2,
        "p2pcap_statements": 12,
        "p2pcap_statements_waiting": 3,
        "p2pcap_store_bytes": 4_096,
        "p2pcap_gossip_messages_total verdict=accept": 40,
        "p2pcap_gossip_messages_total verdict=ignore": 2,
        "p2pcap_requests_served_total outcome=ok request=status": 9,
        "p2pcap_requests_served_total outcome=refused request=image": 1,
        "p2pcap_connections_ended_total reason=trimmed": 5,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_no_label_is_a_stranger_s_choice() -> None:
    assert "12D3KooW" not in exposition(BUSY)
    assert "evil" not in exposition(BUSY)


def test_names_follow_the_conventions() -> None:
    names = [*GAUGES, *COUNTERS, *(name for name, _, _ in COUNTED.values())]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"p2pcap(_[a-z]+)+", name)
        assert not name.endswith("_total"), "the format adds it to counters"
