"""The stored vectors of trust, in the order of the file and in any other."""

import json
import random
from typing import Any

import pytest

from p2pcap.envelope import open_envelope
from p2pcap.ledger.due import due
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Ban
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.project.opened import open_project, payload_hash
from tests.makers import NOW
from tests.vectors import trust

VECTORS = json.loads(trust.FILE.read_text(encoding="ascii"))
CHAIN = {name: bytes.fromhex(data) for name, data in VECTORS["project"].items()}
ROOT = open_envelope(CHAIN["root"])
PROJECT = open_project(ROOT, open_envelope(CHAIN["manifest"]), CHAIN["plan"], payload_hash(ROOT))
FIRST = ("grant", "result")


def test_the_file_is_what_the_cases_make() -> None:
    assert trust.FILE.read_text(encoding="ascii") == trust.text()


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("seed", range(3))
def test_vector(case: dict[str, Any], seed: int) -> None:
    envelopes = [open_envelope(bytes.fromhex(data)) for data in case["statements"]]
    rest = [one for one in envelopes if one.kind not in FIRST]
    random.Random(seed).shuffle(rest)
    ledger = Ledger(PROJECT)
    for envelope in (*(one for one in envelopes if one.kind in FIRST), *rest):
        judgement = validate(ledger, envelope.data, NOW + 100_000)
        if judgement.verdict is Verdict.ACCEPT:
            ledger.add(envelope, judgement.record)
            if isinstance(judgement.record, Result):
                ledger.complete(envelope.id, envelope.author, judgement.record, 0)
    for id_, items in case["counted"].items():
        author, _ = ledger.results[bytes.fromhex(id_)]
        assert f"{ledger.counted(bytes.fromhex(id_), author):016x}" == items
    standing = ledger.trust.standing(bytes.fromhex(case["author"]))
    assert {name: getattr(standing, name) for name in case["standing"]} == case["standing"]
    assert any(isinstance(ruling, Ban) for ruling in due(ledger, NOW + 100_000)) == case["ban"]
