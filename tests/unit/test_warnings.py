"""What a node warns of: as long as it is true, and no longer."""

import pytest

from p2pcap.envelope import seal
from p2pcap.ledger.rulings import Ban
from p2pcap.ledger.state import Ledger
from p2pcap.node.warnings import warnings
from tests.makers import ADA, BOB, COORDINATOR, NOW, make_project


@pytest.mark.parametrize(("reason", "told"), [("vandal", "vandal"), ("", "no reason given")])
def test_who_is_banned_is_told_everywhere_until_it_is_lifted(reason: str, told: str) -> None:
    project = make_project((64,)).project
    ledger = Ledger(project)
    assert warnings(ledger, ADA.public, "", NOW) == ()
    for version, scope in enumerate(("all", "none"), 1):
        ban = Ban(project.m, ADA.public, version, 0, scope, reason, (), NOW)
        ledger.add(seal(COORDINATOR, "ban", ban), ban)
        banned = [line for line in warnings(ledger, ADA.public, "", NOW) if f"has banned this node ({told})" in line]
        assert len(banned) == (scope == "all")
        assert warnings(ledger, BOB.public, "", NOW) == ()
