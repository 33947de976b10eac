"""The statement format has two implementations: both find the same ids and signatures in the test vectors."""

import json
from pathlib import Path

import pytest

from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError
from tests.interop.js import js_peer
from tests.swarm.twin import ROOT, within

pytestmark = pytest.mark.usefixtures("installed")

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "validate.json").read_text())["cases"]


def shown(envelope: Envelope) -> dict[str, object]:
    """As `peer.mjs` shows a statement."""
    author, id_ = envelope.author.hex(), envelope.id.hex()
    return {"type": envelope.kind, "author": author, "id": id_, "holds": envelope.holds()}


@within(60)
async def test_ids_and_signatures_agree() -> None:
    read = []
    for text in dict.fromkeys(text for case in CASES for text in (*case["before"], case["message"])):
        try:
            read.append(open_envelope(bytes.fromhex(text)))
        except CodecError:
            continue
    async with js_peer(ROOT, bytes([9]) * 32) as js:
        for envelope in read:
            answer = await js.do("open", envelope=envelope.data.hex())
            assert answer["statement"] == shown(envelope)
    assert len(read) > 100
