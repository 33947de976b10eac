"""From one pinned hash to all the bytes: each link of the chain, tampered with, breaks it."""

import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import encode
from p2pcap.envelope import Envelope, open_envelope, seal
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.project.opened import (
    check_current,
    check_manifest,
    open_items,
    open_plan,
    open_project,
    payload_hash,
    read_manifest,
)
from p2pcap.project.records import Manifest, Policy, Role, Roles, Root
from p2pcap.project.roots import open_first
from p2pcap.project.sampling import Format, OutputPolicy, Sampling
from p2pcap.project.task import ENGINE_KINDS, Model, Prompt, Task
from tests.makers import (
    COORDINATOR,
    EVE,
    FOREVER,
    NOW,
    ROOT_KEY,
    chunks_of,
    make_project,
    manifest_of,
    root_of,
    task_of,
)
from tests.strategies import records

MADE = make_project((128, 100))
PROJECT = MADE.project
ROOT, MANIFEST, PLAN = PROJECT.root_envelope, PROJECT.manifest_envelope, PROJECT.plan_data
LISTS = [encode(items) for items in MADE.items]


def resigned(envelope: Envelope, signer: Identity, record: object) -> Envelope:
    return seal(signer, envelope.kind, record)


def open_manifest(envelope: Envelope, root: Root) -> Manifest:
    manifest = read_manifest(envelope, PROJECT.hash)
    check_manifest(envelope, root)
    return manifest


def changed(record: msgspec.Struct, **fields: Any) -> msgspec.Struct:
    return msgspec.structs.replace(record, **fields)


def test_the_whole_chain_opens() -> None:
    opened = open_project(ROOT, MANIFEST, PLAN, PROJECT.hash)
    assert opened == PROJECT
    assert (opened.title, opened.images, opened.m) == ("Shapes", 228, PROJECT.hash[:8])
    assert opened.coordinators == frozenset({COORDINATOR.public})
    assert [open_items(data, chunk) for data, chunk in zip(LISTS, chunks_of(opened), strict=True)] == list(MADE.items)


def test_the_chain_opens_from_the_bytes_that_travel() -> None:
    root, manifest = open_envelope(ROOT.data), open_envelope(MANIFEST.data)
    assert open_project(root, manifest, PLAN, PROJECT.hash) == PROJECT


def test_a_name_belongs_to_one_root() -> None:
    other = root_of("Another")
    assert payload_hash(other) != PROJECT.hash
    with pytest.raises(UntrustedError, match="not the one the ticket names"):
        open_first(other, PROJECT.hash)


ROOTS = {
    "another name": changed(PROJECT.root, name="Shapes "),
    "a key of a stranger": changed(PROJECT.root, keys=(ROOT_KEY.public, EVE.public)),
    "a later end": changed(PROJECT.root, expires=FOREVER + 1),
}


@pytest.mark.parametrize("record", ROOTS.values(), ids=ROOTS.keys())
@pytest.mark.parametrize("signer", [ROOT_KEY, EVE])
def test_another_root_is_refused_whoever_signed_it(record: Root, signer: Identity) -> None:
    with pytest.raises(UntrustedError):
        open_project(resigned(ROOT, signer, record), MANIFEST, PLAN, PROJECT.hash)


@pytest.mark.parametrize("signer", [EVE, COORDINATOR])
def test_a_root_signed_by_no_root_key_is_refused(signer: Identity) -> None:
    forged = resigned(ROOT, signer, PROJECT.root)
    assert payload_hash(forged) == PROJECT.hash
    with pytest.raises(UntrustedError, match="not signed by its own key"):
        open_first(forged, PROJECT.hash)
    with pytest.raises(UntrustedError, match="not signed by its own key"):
        open_first(replace(ROOT, signature=forged.signature), PROJECT.hash)


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        pytest.param(Roles(Role((0,)), Role((2,))), "keys that it does not hold", id="a coordinator beyond the keys"),
        pytest.param(Roles(Role((0, 7)), Role((1,))), "keys that it does not hold", id="a root key beyond the keys"),
        pytest.param(Roles(Role((0,), 2), Role((1,))), "more signatures than it names", id="two signatures by one"),
        pytest.param(Roles(Role((0,)), Role((0, 1), 2)), "several coordinators", id="two coordinator signatures"),
    ],
)
def test_a_root_that_asks_for_what_cannot_be_is_refused(roles: Roles, says: str) -> None:
    root = resigned(ROOT, ROOT_KEY, changed(PROJECT.root, roles=roles))
    with pytest.raises(UntrustedError, match=says):
        open_first(root, payload_hash(root))


@pytest.mark.parametrize("payload", [b"", b"\xff", encode({}), encode([1]), encode({"name": "x"})])
def test_a_root_of_no_sense_is_refused(payload: bytes) -> None:
    root = Envelope("root", payload, ROOT_KEY.public, ROOT_KEY.sign("root", payload))
    with pytest.raises(UntrustedError, match="cannot be read"):
        open_first(root, payload_hash(root))


@pytest.mark.parametrize("signer", [EVE, ROOT_KEY])
def test_a_manifest_signed_by_no_coordinator_is_refused(signer: Identity) -> None:
    with pytest.raises(UntrustedError, match="not signed by the project's coordinator"):
        open_manifest(manifest_of(ROOT, PLAN, signer), PROJECT.root)


@pytest.mark.parametrize("field", ["version", "expires", "created", "length"])
def test_a_changed_manifest_under_the_old_signature_is_refused(field: str) -> None:
    record = changed(PROJECT.manifest, **{field: getattr(PROJECT.manifest, field) + 1})
    with pytest.raises(UntrustedError, match="not signed by the project's coordinator"):
        open_manifest(replace(MANIFEST, payload=encode(record)), PROJECT.root)


def test_a_manifest_of_another_project_is_refused() -> None:
    """Both projects have the same coordinator."""
    with pytest.raises(UntrustedError, match="belongs to another project"):
        open_manifest(manifest_of(root_of("Another"), PLAN), PROJECT.root)


def test_a_signature_for_another_type_is_refused() -> None:
    payload = MANIFEST.payload
    forged = Envelope("manifest", payload, COORDINATOR.public, COORDINATOR.sign("grant", payload))
    with pytest.raises(UntrustedError, match="not signed by the project's coordinator"):
        open_manifest(forged, PROJECT.root)
    with pytest.raises(UntrustedError, match="This is no manifest"):
        open_manifest(replace(MANIFEST, kind="grant"), PROJECT.root)


@given(st.integers(0, 8 * len(PLAN) - 1))
def test_a_plan_with_a_changed_bit_is_refused(at: int) -> None:
    tampered = bytearray(PLAN)
    tampered[at // 8] ^= 1 << at % 8
    with pytest.raises(UntrustedError, match="not the one the manifest names"):
        open_plan(bytes(tampered), PROJECT.manifest)


@pytest.mark.parametrize("data", [b"", PLAN[:-1], PLAN + b"\0", LISTS[0]])
def test_another_plan_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError, match="not the one the manifest names"):
        open_plan(data, PROJECT.manifest)


@pytest.mark.parametrize("data", [b"", b"\xff", encode({}), LISTS[0], encode({"title": "x", "chunks": []})])
def test_a_plan_of_no_sense_is_refused_even_when_it_is_signed(data: bytes) -> None:
    manifest = changed(PROJECT.manifest, plan=hashlib.sha256(data).digest(), length=len(data))
    assert isinstance(manifest, Manifest)
    with pytest.raises(UntrustedError, match="plan cannot be read"):
        open_plan(data, manifest)


@given(st.integers(0, 1), st.data())
def test_an_item_list_with_a_changed_bit_is_refused(chunk: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 8 * len(LISTS[chunk]) - 1))
    tampered = bytearray(LISTS[chunk])
    tampered[at // 8] ^= 1 << at % 8
    with pytest.raises(UntrustedError, match="not the one the plan names"):
        open_items(bytes(tampered), chunks_of(PROJECT)[chunk])


def test_the_item_list_of_another_chunk_is_refused() -> None:
    with pytest.raises(UntrustedError, match="not the one the plan names"):
        open_items(LISTS[1], chunks_of(PROJECT)[0])


def test_a_list_with_another_number_of_images_is_refused() -> None:
    chunk = replace(chunks_of(PROJECT)[0], count=127)
    with pytest.raises(UntrustedError, match="another number of images"):
        open_items(LISTS[0], chunk)


def test_signatures_expire() -> None:
    check_current(PROJECT, NOW)
    check_current(PROJECT, FOREVER)
    root = msgspec.structs.replace(PROJECT.root, expires=NOW)
    manifest = msgspec.structs.replace(PROJECT.manifest, expires=NOW)
    for expiring in (replace(PROJECT, root=root), replace(PROJECT, manifest=manifest)):
        check_current(expiring, NOW)
        with pytest.raises(UntrustedError, match="expired"):
            check_current(expiring, NOW + 1)


@given(records(Task), records(Task))
def test_tasks_that_differ_have_other_ids(one: Task, other: Task) -> None:
    assert (one.tid == other.tid) == (one == other)
    assert len(one.tid) == 8


@pytest.mark.parametrize(
    "fields",
    [
        {"prompts": (Prompt("caption", "What is it? "),)},
        {"prompts": (Prompt("captions", "What is it?"),)},
        {"sampling": Sampling(seed=1)},
        {"system": "Be brief."},
        {"image_edge": 512},
        {"dtype": "float32"},
        {"max_model_len": 2_048},
        {"quantization": "fp8"},
        {"output": OutputPolicy()},
        {"output": OutputPolicy(cut=("END",))},
        {"chat_template": "{{ messages }}"},
        {"image_processor": '{"max_pixels":1003520}'},
        {"remote_code": True},
        {"engines": ("vllm",)},
        {"prompts": (Prompt("caption", "What is it?", system=""),)},
        {"prompts": (Prompt("caption", "What is it?", image=False),)},
        {"prompts": (Prompt("caption", "What is it?", sampling=Sampling(max_tokens=8)),)},
        {"prompts": (Prompt("caption", "What is it?", format=Format("json")),)},
        {"sampling": Sampling(top_k=5)},
    ],
)
def test_whatever_decides_a_caption_is_in_the_tasks_id(fields: dict[str, Any]) -> None:
    task = changed(task_of(PROJECT), **fields)
    assert isinstance(task, Task)
    assert task.tid != task_of(PROJECT).tid


PLAIN = Task(Model("owner/model", "ab" * 20), (Prompt("caption", "Describe the image."),), Sampling(64))


@pytest.mark.parametrize(
    ("task", "tid"),
    [
        pytest.param(PLAIN, "a9d732f4f1ff23e4", id="as little as can be said"),
        pytest.param(changed(PLAIN, fields=("title",), system="{title}"), "0eba6443238c0f54", id="with fields"),
    ],
)
def test_a_task_without_newer_settings_keeps_its_id(task: Task, tid: str) -> None:
    """Captions of another id are another table: a setting that a later version knows may not change these."""
    assert task.tid.hex() == tid


def test_a_prompt_has_its_own_settings_or_the_task_s() -> None:
    own = Prompt("own", "x", system="", image=False, sampling=Sampling(8))
    task = Task(Model("m"), (PLAIN.prompts[0], own), Sampling(64), system="Be brief.")
    assert [task.system_of(prompt) for prompt in task.prompts] == ["Be brief.", ""]
    assert [task.sampling_of(prompt).max_tokens for prompt in task.prompts] == [64, 8]
    assert [prompt.shows_image for prompt in task.prompts] == [True, False]
    assert task.policy == OutputPolicy()


def test_a_task_takes_any_engine_unless_it_says_which() -> None:
    kinds = [
        (PLAIN.takes(kind), msgspec.structs.replace(PLAIN, engines=("vllm",)).takes(kind)) for kind in ENGINE_KINDS
    ]
    assert dict(zip(ENGINE_KINDS, kinds, strict=True)) == {"vllm": (True, True), "openai": (True, False)}


def test_the_policy_is_not_in_the_tasks_id() -> None:
    assert task_of(make_project(policy=Policy(5, 7)).project).tid == task_of(PROJECT).tid


def test_a_statement_that_is_no_envelope_opens_nothing() -> None:
    with pytest.raises(CodecError):
        open_envelope(PLAN)
