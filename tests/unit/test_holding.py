"""Tables that a running node holds in one state, so that several readings say the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import trio
import trio.testing

from p2pcap.cli.main import run
from p2pcap.cli.nodes import Target
from p2pcap.cli.rows import open_source
from p2pcap.errors import QueryError
from p2pcap.export import csv
from p2pcap.export.source import Source
from p2pcap.node import holding
from p2pcap.node.client import Client
from p2pcap.paths import running_node
from tests.unit.control_node import ControlledNode, controlled, path_of, readers_gone, runtime, some_captions
from tests.unit.store_project import ADA, BOB, sample

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

COUNT = "SELECT count(*) AS n FROM captions"
PROJECT = sample()
HAD, HAS = 66, 68
"""Rows before and after `learned`."""


def count(source: Source) -> int:
    return int(next(iter(source.select(COUNT))).to_pylist()[0]["n"])


def counted_in_parts(source: Source) -> int:
    with source.parts("SELECT chunk, item FROM part", "task") as rows:
        return sum(batch.num_rows for batch in rows)


def learned(node: ControlledNode) -> None:
    """Two more captions come, while a thread of trio's is exporting."""
    trio.from_thread.run(node.store.commit, PROJECT.batch(ADA, 1, [PROJECT.row(1, 2), PROJECT.row(1, 3)]))


def beside(node_directory: Path, use: Callable[[ControlledNode], Any]) -> None:
    """Run `use` on a thread while such a node runs; it lends nothing any more at the end."""

    async def live() -> None:
        with trio.fail_after(60):
            async with controlled(
                node_directory, [*PROJECT.blobs, PROJECT.grant(BOB, "Bob"), *some_captions()]
            ) as node:
                await trio.to_thread.run_sync(use, node)
                await readers_gone(node)

    trio.run(live)


def test_what_is_held_stays_as_it_is(tmp_path: Path) -> None:
    def use(node: ControlledNode) -> None:
        with open_source(Target(tmp_path, running_node(tmp_path))) as source:
            with source.held() as held:
                assert (count(held), counted_in_parts(held)) == (HAD, HAD)
                learned(node)
                assert (count(held), counted_in_parts(held), count(held)) == (HAD, HAD, HAD)
                assert (count(source), counted_in_parts(source)) == (HAS, HAS)
            assert count(source) == HAS

    beside(tmp_path, use)


def test_all_formats_are_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv = csv.write_csv

    def use(node: ControlledNode) -> None:
        def later(*arguments: Any, **options: Any) -> Any:
            learned(node)
            return write_csv(*arguments, **options)

        monkeypatch.setattr(csv, "write_csv", later)
        assert run(["export", "all", str(tmp_path / "out"), "--node", str(tmp_path), "--errors"]) == 0

    beside(tmp_path, use)
    lines = (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
    told = [[json.loads(line)["statement"] for line in lines]]
    told.append(pq.read_table(tmp_path / "out" / "captions.parquet").column("statement").to_pylist())
    assert [len(statements) for statements in told] == [HAD, HAD]
    assert told[0] == told[1]
    assert len(list((tmp_path / "out" / "txt").rglob("*.txt"))) == HAD - 1  # an error has no text
    assert len(list((tmp_path / "out" / "json").rglob("*.json"))) == HAD
    assert run(["verify", str(tmp_path / "out" / "captions.parquet"), "--project", PROJECT.project.hash.hex()]) == 0


def test_an_export_that_ends_early_is_proved_from_the_same_state(tmp_path: Path) -> None:
    def use(node: ControlledNode) -> None:
        out = tmp_path / "few.parquet"
        assert run(["export", "parquet", str(out), "--limit", "3", "--node", str(tmp_path)]) == 0
        assert run(["verify", str(out), "--project", PROJECT.project.hash.hex()]) == 0

    beside(tmp_path, use)


def test_a_client_that_hangs_up_lets_its_state_go(tmp_path: Path) -> None:
    def use(node: ControlledNode) -> None:
        with Client(path_of(tmp_path)) as holder, Client(path_of(tmp_path)) as reader:
            name = holder.hold()
            assert list(reader.query(COUNT, 1, 5.0, name))
            holder.close()
            trio.from_thread.run(readers_gone, node)
            with pytest.raises(QueryError, match="does not hold"):
                list(reader.query(COUNT, 1, 5.0, name))

    beside(tmp_path, use)


def test_a_state_that_nobody_reads_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "IDLE", 0.1)

    def use(node: ControlledNode) -> None:
        with Client(path_of(tmp_path)) as holder:
            holder.hold()
            trio.from_thread.run(readers_gone, node)

    beside(tmp_path, use)


def test_no_more_states_are_held_than_there_is_room_for(tmp_path: Path) -> None:
    def use(node: ControlledNode) -> None:
        holders = [Client(path_of(tmp_path)) for _ in range(holding.MAX_HELD + 1)]
        try:
            for holder in holders[1:]:
                holder.hold()
            with pytest.raises(QueryError, match=f"{holding.MAX_HELD} exports"):
                holders[0].hold()
            holders[1].close()
            assert room_again(holders[0])
        finally:
            for holder in holders:
                holder.close()

    beside(tmp_path, use)


def room_again(client: Client) -> str:
    """Asks until there is room: that a client has hung up is known only when the node has looked."""
    while True:
        try:
            return client.hold()
        except QueryError:
            trio.from_thread.check_cancelled()


def test_an_error_in_a_held_state_ends_nothing_else(tmp_path: Path) -> None:
    def use(node: ControlledNode) -> None:
        with open_source(Target(tmp_path, running_node(tmp_path))) as source, source.held() as held:
            for wrong in ("SELECT nothing FROM captions", "SELECT error('no') FROM captions"):
                with pytest.raises(QueryError):
                    list(held.select(wrong))
            assert count(source) == HAD

    beside(tmp_path, use)


def test_what_is_asked_while_a_new_root_is_taken_up_is_answered_from_the_new_database(tmp_path: Path) -> None:
    async def live() -> None:
        counted: list[int] = []

        def ask() -> None:
            with open_source(Target(tmp_path, running_node(tmp_path))) as source:
                counted.append(count(source))
                with source.held() as held:
                    counted.append(count(held))

        async with controlled(tmp_path) as node, trio.open_nursery() as nursery:
            await trio.to_thread.run_sync(ask)

            async def meanwhile() -> None:
                nursery.start_soon(trio.to_thread.run_sync, ask)
                await trio.testing.wait_all_tasks_blocked(0.1)

            await node.new_root(meanwhile)
        assert counted == [HAD] * 4

    trio.run(live)


def test_a_held_state_does_not_keep_a_new_root_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "LOOKS", 6_000)

    async def nothing() -> None:
        pass

    def use(node: ControlledNode) -> None:
        with Client(path_of(tmp_path)) as holder, Client(path_of(tmp_path)) as reader:
            name = holder.hold()
            trio.from_thread.run(node.new_root, nothing)
            with pytest.raises(QueryError, match="does not hold"):
                list(reader.query(COUNT, 1, 5.0, name))
            assert list(reader.query(COUNT, 1, 5.0, ""))

    beside(tmp_path, use)
