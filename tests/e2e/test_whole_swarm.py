"""A coordinator, two volunteers with vLLM and an observer caption a folder in which some images are broken."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libipld
import pytest
from nacl.signing import VerifyKey

from demo.processes import Processes, Running
from p2pcap.identity import peer_id_of
from p2pcap.node import snapshot as snapshots
from tests.e2e.swarm_of_processes import PROMPT, SwarmOfProcesses, draw, finished, wait_for

pytestmark = pytest.mark.slow

PICTURES = 640
FAULTY = {"garden/empty.jpg": "empty", "harbour/garbage.png": "not-image", "market/cut.jpg": "truncated"}


@dataclass
class Outcome:
    """The swarm after the job, all nodes still running."""

    swarm: SwarmOfProcesses
    nodes: list[Running]
    rows: list[dict[str, Any]]
    export: Path
    truth: dict[str, str]


def spoil(images: Path) -> None:
    """Put a zero-byte, a garbage and a truncated image among the rest."""
    whole = next(path for path in sorted((images / "market").iterdir()) if path.suffix == ".jpg").read_bytes()
    (images / "garden" / "empty.jpg").write_bytes(b"")
    (images / "harbour" / "garbage.png").write_bytes(b"no image at all" * 50)
    (images / "market" / "cut.jpg").write_bytes(whole[: len(whole) // 2])


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("swarm")
    images = draw(folder / "pictures", PICTURES, seed=11)
    spoil(images)
    with Processes(folder) as processes:
        swarm = SwarmOfProcesses(processes, folder, images, wait_for_engines=2)
        volunteers = [swarm.volunteer("alice"), swarm.volunteer("bob")]
        observer = swarm.observer("observer")
        nodes = [swarm.coordinator, *volunteers, observer]
        for node in nodes:
            wait_for(node, finished, nodes)
        for node in nodes:
            swarm.wait_until_final(node)
        export = folder / "captions.jsonl"
        processes.run("export", "jsonl", str(export), "--proofs", "--node", str(observer.directory))
        rows = [json.loads(line) for line in export.read_text().splitlines()]
        lines = (folder / "pictures" / "truth.jsonl").read_text().splitlines()
        truth = {row["path"]: row["captions"][PROMPT] for row in map(json.loads, lines)}
        yield Outcome(swarm, nodes, rows, export, truth)


def test_every_image_has_exactly_one_row(outcome: Outcome) -> None:
    assert sorted(row["key"] for row in outcome.rows) == sorted([*outcome.truth, *FAULTY])


def test_captions_are_right(outcome: Outcome) -> None:
    right = sum(row["caption"] == outcome.truth.get(row["key"]) for row in outcome.rows)
    assert right >= 0.95 * PICTURES


def test_faulty_images_are_error_rows_and_nothing_else_is(outcome: Outcome) -> None:
    errors = {row["key"]: row["error"] for row in outcome.rows if row["error"]}
    assert errors == FAULTY
    assert all(row["reason"] for row in outcome.rows if row["error"])


def test_both_volunteers_took_part(outcome: Outcome) -> None:
    by_name = {name: sum(row["author_name"] == name for row in outcome.rows) for name in ("alice", "bob")}
    assert sum(by_name.values()) == len(outcome.rows)
    assert min(by_name.values()) >= 0.2 * len(outcome.rows)


def merkle_root(leaf: bytes, place: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162, 2.1.3.2, written independently of the product."""
    fn, sn, node = place, size - 1, leaf
    for sibling in path:
        if fn % 2 == 1 or fn == sn:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return node


def test_each_row_is_signed_and_the_export_alone_shows_it(outcome: Outcome) -> None:
    for row in outcome.rows:
        proof = row["provenance"]
        _, kind, payload, author, signature = libipld.decode_dag_cbor(base64.b64decode(proof["statement"]))
        signed = b"p2pcap/result/1\0" + len(payload).to_bytes(4, "big") + payload
        VerifyKey(author).verify(signed, signature)
        assert (kind, peer_id_of(author)) == ("result", row["author"])
        header = libipld.decode_dag_cbor(payload)
        encoded = base64.b64decode(proof["row"])
        covered = [i for i in range(64) if int.from_bytes(header["mask"], "little") >> i & 1]
        place = covered.index(row["item"] - header["offset"])
        leaf = hashlib.sha256(b"\0" + encoded).digest()
        path = [base64.b64decode(part) for part in proof["path"]]
        assert merkle_root(leaf, place, len(covered), path) == header["root"]
        told = libipld.decode_dag_cbor(encoded)
        assert told["image"].hex() == row["image"]
        assert [answer["text"] for answer in told["answers"]][:1] == ([row["caption"]] if not row["error"] else [])


def test_verify_finds_a_changed_caption(outcome: Outcome, tmp_path: Path) -> None:
    processes = outcome.swarm.processes
    assert processes.attempt("verify", str(outcome.export)).returncode == 0
    changed = tmp_path / "changed.jsonl"
    changed.write_text(outcome.export.read_text().replace("big", "small", 1))
    assert processes.attempt("verify", str(changed)).returncode == 5


def test_all_nodes_hold_the_same_table(outcome: Outcome) -> None:
    assert len({outcome.swarm.table_hash(node) for node in outcome.nodes}) == 1


def test_status_query_and_export_agree(outcome: Outcome, tmp_path: Path) -> None:
    run, alice = outcome.swarm.processes.run, outcome.nodes[1]
    where = ("--node", str(alice.directory))
    status = snapshots.decode(run("status", "--json", *where))
    counted = json.loads(run("query", "SELECT count(*) AS n, count(error) AS errors FROM captions", "--json", *where))
    assert counted == [{"n": len(outcome.rows), "errors": len(FAULTY)}]
    assert (status.project.done, status.project.finished) == (len(outcome.rows), True)
    run("export", "jsonl", str(tmp_path / "again.jsonl"), "--proofs", *where)
    assert (tmp_path / "again.jsonl").read_bytes() == outcome.export.read_bytes()


def test_a_node_that_joins_after_the_end_through_a_peer_holds_the_same_table(outcome: Outcome) -> None:
    """Runs last: it stops the coordinator."""
    swarm, alice = outcome.swarm, outcome.nodes[1]
    expected = swarm.table_hash(alice)
    swarm.processes.stop(swarm.coordinator)
    ticket = swarm.processes.run("ticket", "--node", str(alice.directory)).strip()
    late = swarm.observer("late", ticket)
    wait_for(late, finished)
    swarm.wait_until_final(late)
    swarm.wait_until_alike(late, alice)
    assert swarm.table_hash(late) == expected


def test_the_images_never_left_the_coordinators_folder_by_another_way(outcome: Outcome) -> None:
    for node in outcome.nodes[1:3]:
        seen = node.snapshot()
        assert seen is not None
        assert seen.fetch.bytes > 0
        assert seen.fetch.images == len({row["image"] for row in outcome.rows})
