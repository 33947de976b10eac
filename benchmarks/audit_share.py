"""What checking others' captions takes of the captioning work: an item's check as a verifier makes it, times the share
of items that are drawn of an author of each tier.

Captioned and checked in turn by one engine with the shipped model: tokens are held against the text and read by the
model, each time with the picture decoded anew. CPU time of node and engine. Baseline: no checks at all.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from benchmarks.engines import Cost, Stopwatch, caption_all, fresh_name, pictures, running, task
from benchmarks.job import SHAPES
from benchmarks.report import Line, Lines, at_most
from models.shapes.pictures import DESCRIBE
from p2pcap.audit.checking import Checking, Shown
from p2pcap.audit.sampling import TIERS, peer_share, share_of
from p2pcap.engine.base import Output
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.ledger.records import Answer, Row
from p2pcap.project.audit import NO_LIMIT, Audit, Bound, Honest, Limits
from p2pcap.project.records import DEFAULT_PEER_AUDITS

GOAL = 0.01
"""Of the captioning work, for authors who have proved themselves."""

TOKENS = 48
IMAGES = 64
ROUNDS = 3
SEED = 9_700

BOUND = Bound(1_000, NO_LIMIT, 500)
AUDIT = Audit("tokens", Honest(1, 0, 0), (), 1, limits=(Limits(5_000, BOUND, BOUND, BOUND),))


def run() -> Lines:
    """The shares by tier, from the median of the rounds."""
    with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        rounds = trio.run(_measure, Path(folder))
    price = statistics.median(check.cpu / make.cpu for make, check in rounds)
    yield Line("audit_share.item", price, "of captioning it", baseline=1.0)
    for tier in range(len(TIERS)):
        share, name = price * share_of(tier, verifiers=1), f"audit_share.tier_{tier}"
        if tier < len(TIERS) - 1:
            yield Line(name, share, "of the captioning", baseline=0.0)
        else:
            yield at_most(name, share, "of the captioning", GOAL, 0.0)
    yield Line("audit_share.volunteers", price * peer_share(DEFAULT_PEER_AUDITS, 1), "of the captioning", baseline=0.0)


async def _measure(folder: Path) -> list[tuple[Cost, Cost]]:
    """What captioning and checking cost, round by round; the first is not counted."""
    files = pictures(IMAGES, SEED)
    async with running(task([DESCRIBE], TOKENS), folder, SHAPES) as engine:
        return [await _round(engine, files) for _ in range(ROUNDS + 1)][1:]


async def _round(engine: VllmEngine, files: Sequence[bytes]) -> tuple[Cost, Cost]:
    watch = Stopwatch()
    answers = await caption_all(engine, files)
    made = watch.read()
    checking = Checking(task([DESCRIBE], TOKENS), AUDIT, engine)
    watch = Stopwatch()
    async with trio.open_nursery() as nursery:
        for file, (answer,) in zip(files, answers, strict=True):
            nursery.start_soon(_check, checking, file, answer)
    return made, watch.read()


async def _check(checking: Checking, file: bytes, answer: Output) -> None:
    image = Shown(fresh_name(), file)
    row = Row(0, image.hash, (Answer(answer.text, answer.tokens, answer.finish),))
    outcome = await checking.answers(image, row, (answer.ids,), {}, b"measured")
    assert outcome.word == "ok", outcome
