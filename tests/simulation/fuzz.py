"""Bytes from nowhere, and valid ones with something changed: whatever comes in, only the documented errors come out.

    python -m tests.simulation.fuzz --inputs 10000000

Every decoder that a stranger's bytes reach is asked, and `validate`, which never raises. Inputs follow from `--seed`
and their number, so a failing one is made again by `--only NUMBER`.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from p2pcap.codec import decode, decode_plain, encode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError, TicketError, UntrustedError
from p2pcap.ledger.body import open_body
from p2pcap.ledger.checkpoint import (
    coverage_blob,
    open_coverage,
    open_segment,
    open_tiers,
    segments,
    tiers_blob,
)
from p2pcap.ledger.index import Index
from p2pcap.ledger.judgement import Judgement, Verdict
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.project.ticket import Ticket
from p2pcap.swarm import messages
from p2pcap.swarm.sync import MAX_FRAME
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    NOW,
    ROOT_KEY,
    TICKET_KEY,
    make_project,
    make_result,
    make_ticket,
)
from tests.vectors.generate import FILE

TELL_EVERY = 30.0
LIMIT = 4_096

MADE = make_project((128, 100))
PROJECT = MADE.project
RESULT, BODY = make_result(PROJECT, 0, [MADE.row(0, index) for index in range(64)])

VECTORS = json.loads(FILE.read_text(encoding="ascii"))
STATEMENTS = tuple(bytes.fromhex(case["message"]) for case in VECTORS["cases"] if case["verdict"] == "accept")
"""Valid statements of every type: what the vectors of `validate` accept."""


@dataclass(frozen=True)
class Target:
    """Something that reads strangers' bytes: `read` raises nothing but `errors`. `seeds` are good inputs."""

    name: str
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Sequence[bytes]


def ledger(*kinds: str) -> Ledger:
    """A ledger that holds the valid statements of these kinds, of all when none is named."""
    filled = Ledger(PROJECT)
    for data in STATEMENTS * 2:
        judgement = validate(filled, data, NOW)
        envelope = judgement.envelope
        if judgement.verdict is Verdict.ACCEPT and envelope is not None and (not kinds or envelope.kind in kinds):
            filled.hear(envelope, judgement.record, NOW)
            if envelope.kind != "claim":
                filled.add(envelope, judgement.record)
    return filled


ADMITTED, FULL = ledger("grant"), ledger()


def judge(data: bytes, held: Ledger = ADMITTED) -> Judgement:
    """Validate, and look whether what was accepted is what it seems."""
    judgement = validate(held, data, NOW)
    if judgement.verdict is Verdict.ACCEPT:
        envelope = judgement.envelope
        assert envelope is not None, "accepted without saying what"
        assert envelope.data == data, "accepted something else"
        assert envelope.holds(), "accepted what nobody signed"
        assert encode(judgement.record) == envelope.payload, "accepted what says something else"
    else:
        assert judgement.record is None, "refused, and yet something is said"
        assert judgement.reason, "refused without a reason"
    return judgement


def read_answer(data: bytes) -> object:
    """An answer in a conversation, as the side that began it reads it."""
    return Reconciliation(_index(40), LIMIT).take(data)


def _index(count: int) -> Index:
    index, rng = Index(), random.Random(count)
    for _ in range(count):
        index.add(NOW + rng.randrange(100), rng.randbytes(32))
    return index


SMALL = _index(20)
KEYS = [(NOW, bytes([number]) * 32) for number in range(3)]
PARTS = segments(KEYS)
TICKET = make_ticket(PROJECT)


def _segment(data: bytes) -> object:
    return open_segment(data, PARTS[0][0])


CONVERSATION = Reconciliation(_index(40), LIMIT).first()
COVERAGE = coverage_blob({}, PROJECT.counts)
PUSH = encode(messages.PushRequest([b"x"]))
TIERS = tiers_blob({ADA.public: 1, BOB.public: 2})

TARGETS: tuple[Target, ...] = (
    Target("validate", judge, (), STATEMENTS),
    Target("validate", judge, (), STATEMENTS),
    Target("validate", lambda data: judge(data, FULL), (), STATEMENTS),
    Target("plain", lambda data: decode_plain(data, LIMIT), (CodecError,), STATEMENTS),
    Target("envelope", open_envelope, (CodecError,), STATEMENTS),
    Target("body", lambda data: open_body(data, RESULT), (UntrustedError,), (BODY.data,)),
    Target("frame", lambda data: respond(SMALL, data, LIMIT), (CodecError,), (CONVERSATION,)),
    Target("answer", read_answer, (CodecError,), (respond(SMALL, CONVERSATION, LIMIT),)),
    Target("coverage", lambda data: open_coverage(data, PROJECT.counts), (UntrustedError,), (COVERAGE,)),
    Target("tiers", open_tiers, (UntrustedError,), (TIERS,)),
    Target("segment", _segment, (UntrustedError,), (PARTS[0][1],)),
    Target("push", lambda data: decode(data, messages.PushRequest, MAX_FRAME), (CodecError,), (PUSH,)),
    Target("ticket", lambda data: Ticket.parse(data.decode("latin-1")), (TicketError,), (str(TICKET).encode(),)),
)


def make(rng: random.Random, target: Target) -> bytes:
    """An input: mostly a good one with something changed, also inside what is signed."""
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    data = rng.choice(target.seeds)
    if kind < 4 and target.name == "validate":
        return _signed_again(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data = change(rng, data, target.seeds)
    return data


def change(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Something of `data` is changed."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 32)))
    match rng.randrange(7):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:at] + rng.randbytes(to - at) + data[at:]
        case 3:
            return data[:at]
        case 4:
            other = rng.choice(others)
            return data[:at] + other[rng.randrange(len(other) + 1) :]
        case 5:
            return data[:at] + data[at:to] * rng.randrange(2, 6) + data[to:]
    flipped = bytearray(data or b"\0")
    flipped[at % len(flipped)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


SIGNERS = (ADA, BOB, COORDINATOR, TICKET_KEY, ROOT_KEY)


def _signed_again(rng: random.Random, data: bytes) -> bytes:
    """The statement with another payload, really signed: by whoever signed it, or by somebody else."""
    envelope = open_envelope(data)
    other = rng.random() < 0.5
    payload = _other_fields(rng, envelope.payload) if other else change(rng, envelope.payload, [envelope.payload])
    signer = next((one for one in SIGNERS if one.public == envelope.author), ADA)
    if rng.random() < 0.2:
        signer = rng.choice(SIGNERS)
    kind = envelope.kind if rng.random() < 0.95 else rng.choice(("root", "manifest", "claim", "result", "fork", "x"))
    return Envelope(kind, payload, signer.public, signer.sign(kind, payload)).data


NUMBERS = (0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63))
EDGES: tuple[Any, ...] = (*NUMBERS, b"", bytes(8), bytes(32), b"\xff" * 8, "", "x", [], {}, None, True)


def _other_fields(rng: random.Random, payload: bytes) -> bytes:
    """A field of the record with an edge of some type in it, or gone, or one too many."""
    plain = decode_plain(payload, 2**16)
    name = rng.choice(list(plain))
    match rng.randrange(4):
        case 0:
            del plain[name]
        case 1:
            plain["extra"] = rng.choice(EDGES)
        case 2 if isinstance(plain[name], int):
            plain[name] += rng.choice((-1, 1, 2**20, -(2**20)))
        case _:
            plain[name] = rng.choice(EDGES)
    try:
        return encode(plain)
    except CodecError:
        return payload


def one(seed: int, number: int) -> None:
    """Make an input and have it read. Raises what nobody documented."""
    rng = random.Random(seed * 2**40 + number)
    target = TARGETS[number % len(TARGETS)]
    data = make(rng, target)
    try:
        target.read(data)
    except target.errors:
        return
    except Exception as error:
        error.add_note(f"target {target.name}, input {number} of seed {seed}: {data.hex()}")
        error.add_note(f"again: python -m tests.simulation.fuzz --seed {seed} --only {number}")
        raise


def main() -> int:
    """0 when nothing undocumented came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.fuzz")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    if options.only is not None:
        one(options.seed, options.only)
        return 0
    started = told = time.monotonic()
    for number in range(options.inputs):
        one(options.seed, number)
        if number % 1_000 == 0 and time.monotonic() > told + TELL_EVERY:
            told = time.monotonic()
            print(f"{number:,} of {options.inputs:,} inputs, {number / (told - started):,.0f} a second", flush=True)
    print(f"{options.inputs:,} inputs, nothing undocumented")
    return 0


if __name__ == "__main__":
    sys.exit(main())
