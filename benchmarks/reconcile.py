"""What it costs two nodes to find out how their statements differ, with the frames that peers send each other.

Bytes are those of the frames, both ways; a line `…_requests` adds what carries them: the encoding of request and answer
and their lengths, but not what libp2p adds to each stream. Ids of statements that are found missing are within, the
statements are not. The baseline is the plain way: one side lists all its ids.

The time of a round is CPU time of the event loop's thread for one frame, taken in and answered, at a million ids: the
longest while sets that differ in 4 % are compared, and of frames that a hostile peer chose to be slow. The baseline is
the same with 15,625 ids.
"""

import random
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from benchmarks.report import Line, Lines, at_most
from benchmarks.statements import SLICES, make
from p2pcap.codec import encode
from p2pcap.ledger.index import ID_BYTES, Index
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.project.records import SLICE
from p2pcap.swarm.frames import frame
from p2pcap.swarm.messages import RECONCILE_FRAME, Reconciled, ReconcileRequest

RESULTS = 15_625
"""Of 64 captions each: a project of a million."""
LOST = 10
APART = 938
"""Results that each half of a partition makes: 60,000 captions."""
WEEK = 7 * 86_400
SINCE = 1_700_000_000
SEED = 7

MANY = 1_000_000
PERIOD = 13 * WEEK
SCATTERED = 20_000
"""Of a million ids, those that only one side has; of each side."""
ROUND_GOAL = 50.0
ROUNDS = 24
"""Rounds of the comparison of a million that are timed."""

Entry = tuple[int, bytes]


@dataclass(frozen=True)
class Talk:
    """A whole conversation."""

    rounds: int
    frames: int
    requests: int
    found: int


def run() -> Lines:
    """Bytes and rounds of three comparisons, then times and memory at a million ids."""
    draw = random.Random(SEED)
    shared = list(islice(drawn(draw, SINCE, WEEK), RESULTS))
    apart = list(islice(drawn(draw, SINCE + WEEK, 36_000), 2 * APART))
    yield from _bytes("equal", shared, shared, found=0, goal=400)
    yield from _bytes("lost", shared, sorted(shared, key=lambda entry: entry[1])[LOST:], found=LOST, goal=10_000)
    halves = shared + apart[:APART], shared + apart[APART:]
    yield from _bytes("partition", *halves, found=2 * APART, goal=40_000)
    yield _overhead(talk(*map(index_of, halves)))
    yield from _times(draw, shared)


def drawn(draw: random.Random, since: int, seconds: int) -> Iterator[Entry]:
    """Results without end, at any times of a period."""
    while True:
        yield since + draw.randrange(seconds), draw.randbytes(ID_BYTES)


def index_of(entries: Iterable[Entry]) -> Index:
    """An index with these entries."""
    index = Index()
    for entry in entries:
        index.add(*entry)
    return index


def talk(a: Index, b: Index) -> Talk:
    """`a` finds out how `b` differs."""
    asking = Reconciliation(a, RECONCILE_FRAME)
    question: bytes | None = asking.first()
    rounds = frames = requests = found = 0
    while question is not None:
        answer = respond(b, question, RECONCILE_FRAME)
        step = asking.take(answer)
        rounds += 1
        frames += len(question) + len(answer)
        requests += len(frame(encode(ReconcileRequest(question)))) + len(frame(encode(Reconciled(answer))))
        found += len(step.have) + len(step.need)
        question = step.next
    return Talk(rounds, frames, requests, found)


def _bytes(name: str, a: Sequence[Entry], b: Sequence[Entry], found: int, goal: float) -> Lines:
    talked = talk(index_of(a), index_of(b))
    if talked.found != found:
        raise AssertionError(f"{talked.found} differences were found instead of {found}")
    naive = ID_BYTES * len(b)
    yield at_most(f"reconcile.{name}", talked.frames, "B", goal, naive)
    yield Line(f"reconcile.{name}_requests", talked.requests, "B", baseline=naive)
    rounds = f"reconcile.{name}_rounds"
    yield at_most(rounds, talked.rounds, "rounds", 1) if not found else Line(rounds, talked.rounds, "rounds")


def _overhead(healed: Talk) -> Line:
    """What the ledger adds to a caption's own bytes: the header of its result, and finding that it is missing."""
    header = len(make(SLICES).header(0).data)
    value = header / SLICE + healed.requests / (2 * APART * SLICE)
    return at_most("reconcile.overhead", value, "B/caption", 5.0, header / SLICE)


def _times(draw: random.Random, few: Sequence[Entry]) -> Lines:
    entries = drawn(draw, SINCE, PERIOD)
    tracemalloc.start()
    a = index_of(islice(entries, MANY - SCATTERED))
    size = tracemalloc.get_traced_memory()[0] / len(a)
    tracemalloc.stop()
    b = index_of(a)
    for index in (a, b):
        for entry in islice(entries, SCATTERED):
            index.add(*entry)
    small = index_of(few), index_of(few[RESULTS // 50 :])
    yield at_most("reconcile.round", max(_rounds(a, b)), "ms", ROUND_GOAL, max(_rounds(*small)))
    yield at_most("reconcile.round_hostile", max(_hostile(a)), "ms", ROUND_GOAL, max(_hostile(small[0])))
    yield Line("reconcile.memory", size, "B/id", baseline=ID_BYTES)


def _rounds(a: Index, b: Index) -> Iterator[float]:
    """Milliseconds of each frame, on either side."""
    asking = Reconciliation(a, RECONCILE_FRAME)
    question: bytes | None = asking.first()
    for _ in range(ROUNDS):
        if question is None:
            return
        started = time.thread_time()
        answer = respond(b, question, RECONCILE_FRAME)
        answered = time.thread_time()
        question = asking.take(answer).next
        yield 1_000 * (answered - started)
        yield 1_000 * (time.thread_time() - answered)


def _hostile(index: Index) -> Iterator[float]:
    """Milliseconds for frames with as many ranges as possible: all passed over, all different, all empty."""
    for mode, payload in ((0, b""), (1, bytes(16)), (2, b"\0")):
        count = RECONCILE_FRAME // (4 + len(payload)) - 16
        said = _ranges(count, PERIOD // count, mode, payload)
        started = time.thread_time()
        respond(index, said, RECONCILE_FRAME)
        yield 1_000 * (time.thread_time() - started)


def _ranges(count: int, apart: int, mode: int, payload: bytes) -> bytes:
    """A frame of `count` ranges of so many seconds each, all of one mode."""
    bounds = [SINCE + 1] + [apart + 1] * (count - 1)
    return b"\x61" + b"".join(_varint(bound) + bytes((0, mode)) + payload for bound in bounds)


def _varint(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))
