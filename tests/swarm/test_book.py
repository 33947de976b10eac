"""Remembering peers from last time, and coming back through them."""

import json
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from p2pcap.errors import SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint
from p2pcap.swarm.discovery.book import (
    DAY,
    FORGET_SECONDS,
    KEPT,
    MAX_ADDRESSES,
    MAX_FILE,
    MAX_PEERS,
    SAVE_SECONDS,
    Book,
    Remembered,
    keep_book,
    load_book,
    save_book,
)
from tests.swarm.twin import node, within

NOW = 1_800_000_000.0
OWN, ANN, BOB = (Identity.from_seed(bytes([n]) * 32).peer_id for n in (1, 2, 3))
PORTS = "/ip4/192.0.2.7/tcp/{}".format


def at(peer: str, *ports: int) -> list[Endpoint]:
    return [Endpoint(PORTS(port), peer) for port in ports]


def peers(book: Book) -> list[str]:
    return [entry.peer for entry in book.entries]


def test_what_was_met_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    book = load_book(path, OWN, NOW)
    book.met(ANN, at(ANN, 1, 2), NOW)
    save_book(path, book.entries)
    assert load_book(path, OWN, NOW + DAY).start(NOW + DAY) == at(ANN, 1, 2)


def test_who_was_met_today_and_who_was_often_there_comes_first() -> None:
    book = Book(OWN)
    strangers = [Identity.generate().peer_id for _ in range(3)]
    for day in range(5):
        book.met(ANN, at(ANN, 1), NOW + day * DAY)
    book.met(BOB, at(BOB, 1), NOW + 4 * DAY)
    for old in strangers:
        book.met(old, at(old, 1), NOW)
    assert peers(book) == [ANN, BOB, *sorted(strangers)]
    assert book.entries[0].days == 5


def test_only_others_with_an_address_of_their_own_are_remembered() -> None:
    book = Book(OWN)
    book.met(OWN, at(OWN, 1), NOW)
    book.met(ANN, [], NOW)
    book.met(ANN, at(BOB, 1), NOW)
    assert book.entries == ()


def test_another_project_is_forgotten() -> None:
    book = Book(OWN)
    book.met(ANN, at(ANN, 1), NOW)
    book.forget(ANN)
    assert book.entries == ()


def strangers(count: int) -> list[str]:
    return [Identity.from_seed(n.to_bytes(32, "big")).peer_id for n in range(1_000, 1_000 + count)]


def test_nobody_is_remembered_for_ever_but_those_met_most() -> None:
    book = Book(OWN)
    for peer in strangers(KEPT):
        for day in range(3):
            book.met(peer, at(peer, 1), NOW + day * DAY)
    book.met(ANN, at(ANN, 1), NOW + 2 * DAY)
    assert ANN in {endpoint.peer for endpoint in book.start(NOW + 2 * DAY + FORGET_SECONDS)}
    assert {endpoint.peer for endpoint in book.start(NOW + 2 * DAY + FORGET_SECONDS + 1)} == set(strangers(KEPT))


@pytest.mark.parametrize("wrong", [0.0, NOW + 70 * DAY])
def test_a_clock_that_was_wrong_once_costs_nobody(wrong: float) -> None:
    book = Book(OWN)
    for day in range(3):
        book.met(ANN, at(ANN, 1), NOW + day * DAY)
    book.start(wrong)
    assert book.start(NOW + 4 * DAY) == at(ANN, 1)


def test_strangers_in_numbers_drive_out_nobody_who_has_been_there() -> None:
    book = Book(OWN)
    for peer in (ANN, BOB):
        for day in range(30):
            book.met(peer, at(peer, 1), NOW + day * DAY)
    for peer in strangers(2 * MAX_PEERS):
        book.met(peer, at(peer, 1), NOW + 31 * DAY)
    assert {ANN, BOB} <= set(peers(book))
    assert len(book.entries) == MAX_PEERS


def test_the_book_and_its_file_are_bounded(tmp_path: Path) -> None:
    book = Book(OWN)
    for n in range(MAX_PEERS + 50):
        peer = Identity.from_seed(n.to_bytes(32, "big")).peer_id
        book.met(peer, [Endpoint(f"/dns4/{'x' * 200}/tcp/{n}", peer) for n in range(20)], NOW + n * DAY / 10)
    assert len(book.entries) == MAX_PEERS
    assert {len(entry.addresses) for entry in book.entries} == {MAX_ADDRESSES}
    path = tmp_path / "peers.json"
    save_book(path, book.entries)
    assert path.stat().st_size < MAX_FILE
    later = NOW + MAX_PEERS * DAY / 5
    kept = load_book(path, OWN, later).entries
    assert len(kept) >= KEPT
    assert {e.peer for e in book.entries if later - e.seen <= FORGET_SECONDS} <= {e.peer for e in kept}


DAMAGED = {
    "empty": b"",
    "half": msgspec.json.encode({"peers": [Remembered(ANN, (PORTS(1),), NOW)]})[:-9],
    "no json": b"\xff\x00peers",
    "another shape": b'{"peers": {"a": 1}}',
    "too many peers": json.dumps({"peers": [{"peer": ANN, "addresses": [], "seen": 0}] * (MAX_PEERS + 1)}).encode(),
    "too many addresses": json.dumps({"peers": [{"peer": ANN, "addresses": ["a"] * 9, "seen": 0}]}).encode(),
    "deep": b"[" * 100_000,
    "too large": b" " * MAX_FILE + b'{"peers": []}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_set_aside_and_stops_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(data)
    assert load_book(path, OWN, NOW).entries == ()
    assert not path.exists()
    assert (tmp_path / "peers.json.damaged").read_bytes() == data


def test_addresses_that_are_none_are_not_dialled(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    bad = [Remembered(ANN, ("/ip4/1.2.3.4/udp/1", "junk", PORTS(1)), NOW), Remembered("junk", (PORTS(1),), NOW)]
    save_book(path, bad)
    assert load_book(path, OWN, NOW).start(NOW) == at(ANN, 1)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match="cannot be written"):
        save_book(tmp_path / "nowhere" / "peers.json", ())


def test_the_book_is_saved_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    book = Book(OWN)
    clock = trio.testing.MockClock()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_book, path, book)
                book.met(ANN, at(ANN, 1), NOW)
                await _pass(clock, SAVE_SECONDS / 2)
                assert not path.exists()
                await _pass(clock, SAVE_SECONDS)
                while not path.exists():  # a thread writes it
                    await trio.lowlevel.checkpoint()
                assert peers(load_book(path, OWN, NOW)) == [ANN]
                path.unlink()
                book.met(ANN, at(ANN, 1), NOW + 1)
                await _pass(clock, 3 * SAVE_SECONDS)
                assert not path.exists(), "that it is still there is no news"
                book.met(BOB, at(BOB, 1), NOW)
                scope.cancel()

    trio.run(main, clock=clock)
    assert set(peers(load_book(path, OWN, NOW))) == {ANN, BOB}
    assert [file.name for file in tmp_path.iterdir()] == ["peers.json"]


async def _pass(clock: trio.testing.MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


@within(30)
async def test_a_node_comes_back_through_a_remembered_peer_when_the_coordinator_is_gone() -> None:
    async with node() as (kept, _):
        async with node() as (coordinator, _), node(coordinator.addresses[0], kept.addresses[0]) as (first, at_first):
            await at_first.met(coordinator, kept)
            gone = coordinator.addresses[0]
            book = Book(first.peer_id)
            for info in first.peers():
                book.met(info.peer_id, [Endpoint(a.split("/p2p/")[0], info.peer_id) for a in info.addresses], NOW)
        async with node(gone) as (back, at_back):
            back._dialer.hear("", book.start(NOW + 7 * DAY))
            await at_back.met(kept)
