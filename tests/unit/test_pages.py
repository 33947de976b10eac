"""Pages of long lists: sorted and filtered before they are cut."""

import gc
from dataclasses import replace

import pytest

from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.ledger.state import Ledger
from p2pcap.node.pages import (
    CONTRIBUTION_ORDERS,
    PEER_ORDERS,
    STANDING_ORDERS,
    PageRequest,
    contributor_page,
    peer_page,
)
from p2pcap.store.reads import Contribution
from p2pcap.swarm.links import PeerInfo as Peer
from p2pcap.swarm.messages import Status
from tests.unit.store_project import sample

PEERS = tuple(
    Peer(f"peer{n}", (f"/ip4/192.0.2.{n}/tcp/1",), 100.0 - n, "out", status, rtt, -0.04 * n, n == 2, n, 10 - n)
    for n, status, rtt in [(1, None, 0.2), (2, None, None), (3, None, 0.1)]
)
AUTHORS = [Identity.generate().peer_id for _ in range(30)]
CONTRIBUTIONS = tuple(Contribution(key, f"Name {n}", 100 - n, n % 3, 0) for n, key in enumerate(AUTHORS))


def test_peers_come_in_any_order_and_those_that_were_never_pinged_last() -> None:
    page = peer_page(PEERS, PageRequest("peers", "rtt"))
    assert [row.peer_id for row in page.rows] == ["peer3", "peer1", "peer2"]
    assert [row.received for row in peer_page(PEERS, PageRequest("peers", "received", down=True)).rows] == [9, 8, 7]
    assert all(peer_page(PEERS, PageRequest("peers", sort)).matching == 3 for sort in PEER_ORDERS)


def test_a_page_says_how_many_there_are_beside_it() -> None:
    trust = Ledger(sample().project).trust
    page = contributor_page(CONTRIBUTIONS, trust, PageRequest("contributors", "rows", True, "NAME 1", 5))
    assert (page.total, page.matching) == (30, 11)
    assert [row.name for row in page.rows] == ["Name 1", "Name 10", "Name 11", "Name 12", "Name 13"]
    by_id = contributor_page(CONTRIBUTIONS, trust, PageRequest("contributors", sought=AUTHORS[7][-12:]))
    assert [row.name for row in by_id.rows] == ["Name 7"]


@pytest.mark.parametrize("sort", [*CONTRIBUTION_ORDERS, *STANDING_ORDERS])
def test_contributors_come_in_any_order(sort: str) -> None:
    trust = Ledger(sample().project).trust
    assert contributor_page(CONTRIBUTIONS, trust, PageRequest("contributors", sort)).matching == 30


def test_an_order_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="not sorted by 'length'"):
        peer_page(PEERS, PageRequest("peers", "length"))


def test_a_peer_is_found_by_its_name_whatever_the_case() -> None:
    said = Status(
        project=bytes(8),
        root=bytes(32),
        manifest_version=1,
        manifest=bytes(32),
        count=0,
        digest=bytes(32),
        name="Änne",
        role="observer",
    )
    page = peer_page((*PEERS, replace(PEERS[0], peer_id="peer9", status=said)), PageRequest("peers", sought="änN"))
    assert [(row.peer_id, row.name, row.role) for row in page.rows] == [("peer9", "Änne", "observer")]


def test_no_order_makes_what_the_garbage_collection_counts() -> None:
    of_peers = {gc.is_tracked(order(peer)) for order in PEER_ORDERS.values() for peer in PEERS}
    of_contributors = {gc.is_tracked(order(one)) for order in CONTRIBUTION_ORDERS.values() for one in CONTRIBUTIONS}
    assert of_peers == of_contributors == {False}
