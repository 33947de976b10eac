"""validate(): the stored vectors, and what must hold for any bytes."""

import copy
import dataclasses
import hashlib
import json
import pickle
from functools import cached_property
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.envelope import open_envelope, seal
from p2pcap.ledger.checkpoint import Stamp
from p2pcap.ledger.engines import OPENAI, kind_of
from p2pcap.ledger.judgement import Wait
from p2pcap.ledger.records import Result
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import RULES, Verdict, slices_in, validate
from p2pcap.project.opened import Project, open_project
from p2pcap.project.records import MAX_CHUNK, Stage
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    NOW,
    claim_record,
    ledger_of,
    make_grant,
    make_project,
    make_result,
    task_of,
    work_of,
)
from tests.strategies import plain, records
from tests.vectors import generate

VECTORS = json.loads(generate.FILE.read_text(encoding="ascii"))
PROJECT = open_project(
    open_envelope(bytes.fromhex(VECTORS["project"]["root"])),
    open_envelope(bytes.fromhex(VECTORS["project"]["manifest"])),
    bytes.fromhex(VECTORS["project"]["plan"]),
    hashlib.sha256(open_envelope(bytes.fromhex(VECTORS["project"]["root"])).payload).digest(),
)


def take_in(ledger: Ledger, data: bytes, now: float) -> None:
    """A statement that must be accepted, and what follows from it."""
    judgement = validate(ledger, data, now)
    assert judgement.verdict is Verdict.ACCEPT, judgement.reason
    envelope = judgement.envelope
    assert envelope is not None
    ledger.hear(envelope, judgement.record, now)
    if envelope.kind != "claim":
        ledger.add(envelope, judgement.record)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    ledger = Ledger(PROJECT)
    for data in case["before"]:
        take_in(ledger, bytes.fromhex(data), NOW)
    judgement = validate(ledger, bytes.fromhex(case["message"]), case["now"])
    assert (judgement.verdict.value, judgement.reason.partition(":")[0]) == (case["verdict"], case["reason"])
    assert (judgement.record is not None) == (case["verdict"] == "accept")
    assert (judgement.contradicts is not None) == (case["reason"] == "another checkpoint of this number")


def test_the_vectors_are_what_the_generator_writes() -> None:
    assert generate.FILE.read_text(encoding="ascii") == generate.text()


def test_each_name_stands_once() -> None:
    names = [case["name"] for case in VECTORS["cases"]]
    assert len(set(names)) == len(names)


MADE = make_project((128, 100))
SOUND = [
    make_grant(MADE.project, BOB),
    seal(ADA, "claim", claim_record(MADE.project, {0: 0b11, 1: 1})),
    seal(ADA, "result", make_result(MADE.project, 0, [MADE.row(0, 0), MADE.row(0, 5)])[0]),
]


def state(ledger: Ledger) -> bytes:
    """Everything. What the project derives is worked out first: else it would be when it is first asked for."""
    for name, value in vars(Project).items():
        if isinstance(value, cached_property):
            getattr(ledger.project, name)
    return pickle.dumps(vars(ledger))


def judged(ledger: Ledger, data: bytes) -> Verdict:
    """The verdict, which must not change anything."""
    before = state(ledger)
    verdict = validate(ledger, data, NOW).verdict
    assert state(ledger) == before
    return verdict


@given(st.integers(0, 2), st.data())
def test_no_changed_bit_is_accepted(which: int, data: st.DataObject) -> None:
    ledger = ledger_of(MADE.project, ADA)
    assert judged(ledger, SOUND[which].data) is Verdict.ACCEPT
    changed = bytearray(SOUND[which].data)
    at = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[at // 8] ^= 1 << at % 8
    assert judged(ledger, bytes(changed)) is not Verdict.ACCEPT


@given(st.binary(max_size=1_300))
def test_noise_is_rejected(data: bytes) -> None:
    assert judged(ledger_of(MADE.project, ADA), data) is Verdict.REJECT


@given(st.sampled_from(sorted(RULES)), plain)
def test_any_signed_payload_gets_a_verdict(kind: str, value: Any) -> None:
    assert judged(ledger_of(MADE.project, ADA), seal(ADA, kind, value).data) is Verdict.REJECT


@pytest.mark.parametrize("name", sorted(RULES))
def test_any_signed_record_gets_a_verdict(name: str) -> None:
    @given(records(RULES[name][0]))
    def check(record: msgspec.Struct) -> None:
        ours = msgspec.structs.replace(record, m=MADE.project.m)
        assert isinstance(judged(ledger_of(MADE.project, ADA), seal(ADA, name, ours).data), Verdict)

    check()


@given(records(Result), st.integers(0, 130))
def test_an_accepted_result_lies_within_its_chunk(record: Result, offset: int) -> None:
    mask = int.from_bytes(record.mask, "little") % 2 ** (record.n + 1) % 2**64
    fields = {"m": MADE.project.m, "tid": task_of(MADE.project).tid, "time": NOW, "mask": mask.to_bytes(8, "little")}
    record = msgspec.structs.replace(record, chunk=record.chunk % 2, offset=offset, **fields)
    ledger = ledger_of(MADE.project, ADA)
    if judged(ledger, seal(ADA, "result", record).data) is Verdict.ACCEPT:
        assert record.items
        assert record.items & ~work_of(ledger).rows.all(record.chunk) == 0


def test_a_header_whose_body_is_awaited_is_seen() -> None:
    ledger = ledger_of(MADE.project, ADA)
    judgement = validate(ledger, SOUND[2].data, NOW)
    ledger.hear(SOUND[2], judgement.record, NOW)
    assert validate(ledger, SOUND[2].data, NOW).reason == "seen"
    result = make_result(MADE.project, 0, [MADE.row(0, 0), MADE.row(0, 5)])[0]
    ledger.forget(SOUND[2].id, result)
    assert judged(ledger, SOUND[2].data) is Verdict.ACCEPT
    ledger.add(SOUND[2], result)
    assert validate(ledger, SOUND[2].data, NOW).reason == "seen"


def test_the_dearest_test_comes_last() -> None:
    """What fails any other test is not worth a signature's time: a bad signature does not change the verdict."""
    ledger = ledger_of(MADE.project, BOB)
    unsigned = copy.copy(SOUND[2])
    object.__setattr__(unsigned, "signature", bytes(64))
    assert validate(ledger, unsigned.data, NOW).reason == "unknown author"


def test_slices_in() -> None:
    assert [slices_in(count) for count in (1, 64, 65, 128, 1_024, MAX_CHUNK)] == [1, 1, 2, 2, 16, 256]


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        (b"openai\x00\x01", "openai"),
        (b"openaiai", "openai"),
        (b"openAI\0\0", "vllm"),
        (b"\0openai\0", "vllm"),
        (bytes(8), "vllm"),
    ],
)
def test_the_kind_of_an_engine_is_in_its_class(engine: bytes, kind: str) -> None:
    assert kind_of(engine) == kind


SERVER = OPENAI + b"\x12\x34"


@pytest.mark.parametrize(
    ("engines", "engine", "verdict"),
    [
        (UNSET, SERVER, Verdict.ACCEPT),
        (("vllm", "openai"), SERVER, Verdict.ACCEPT),
        (("openai",), SERVER, Verdict.ACCEPT),
        (("vllm",), SERVER, Verdict.REJECT),
        (("vllm",), bytes(8), Verdict.ACCEPT),
        (("openai",), bytes(8), Verdict.REJECT),
    ],
)
def test_a_task_says_whose_results_it_takes(engines: Any, engine: bytes, verdict: Verdict) -> None:
    task = msgspec.structs.replace(task_of(MADE.project), engines=engines)
    plan = msgspec.structs.replace(MADE.project.plan, stages=(Stage("caption", task),))
    ledger = ledger_of(dataclasses.replace(MADE.project, plan=plan), ADA)
    result = msgspec.structs.replace(make_result(MADE.project, 0, [MADE.row(0, 0)])[0], tid=task.tid, engine=engine)
    judgement = validate(ledger, seal(ADA, "result", result).data, NOW)
    assert judgement.verdict is verdict
    assert (judgement.reason == "an engine that the task does not take") == (verdict is Verdict.REJECT)
    other = msgspec.structs.replace(result, tid=bytes(8))
    assert validate(ledger, seal(ADA, "result", other).data, NOW).reason == "for another task"


def test_nobody_new_is_let_in_once_the_coordinator_s_last_stamp_has_expired() -> None:
    """Who was let in before stays, and who came too late comes in with the next stamp."""
    made = make_project()
    ledger = Ledger(made.project)
    for version, expires in ((1, NOW + 10), (2, NOW + 1_000)):
        stamp = Stamp(made.project.m, version, 1, 1, bytes(32), 0, bytes(32), NOW, expires)
        take_in(ledger, seal(COORDINATOR, "stamp", stamp).data, NOW)
        if version == 1:
            take_in(ledger, make_grant(made.project, ADA, time=NOW + 10).data, NOW + 500)
            late = validate(ledger, make_grant(made.project, BOB, time=NOW + 11).data, NOW + 500)
            assert (late.verdict, late.wait) == (Verdict.IGNORE, Wait("stamp", 0))
            assert ledger.members.is_admitted(ADA.public)
    take_in(ledger, make_grant(made.project, BOB, time=NOW + 11).data, NOW + 500)
