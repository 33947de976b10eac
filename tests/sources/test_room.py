"""The memory of images on their way: bounded over all reads, and nobody waits for ever."""

import random

import pytest
import trio
import trio.testing

from p2pcap.errors import ImageError
from p2pcap.project.items import Item
from p2pcap.project.records import FetchRules
from p2pcap.sources import addresses
from p2pcap.sources.files import Files
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.room import HOPED, SIZE, YOUNG, Part, Room, Share
from tests.sources.web_server import WebServer, image

IMAGE = b"\xff\xd8\xff" + bytes(10_000)


def held(part: Part) -> int:
    return sum(share.taken for share in part.shares)


async def taken(share: Share, size: int, whole: int = 0) -> bool:
    """Whether there is room at once."""
    with trio.move_on_after(0) as scope:
        await share.take(size, whole)
    return not scope.cancelled_caught


def test_all_reads_of_the_same_files_share_one_room() -> None:
    """A second read finds what the first one takes."""
    left: list[int] = []
    opened: list[Files] = []

    async def never(_place: int, _given: bytes | ImageError) -> None:
        left.append(opened[0].room.left)
        await trio.sleep_forever()

    async def two() -> None:
        async with open_files(None, Access(rules)) as files, trio.open_nursery() as nursery:
            opened.append(files)
            for _ in range(2):
                nursery.start_soon(addresses.read, files, wanted, rules, never)
                await trio.testing.wait_all_tasks_blocked(0.3)
            nursery.cancel_scope.cancel()

    with WebServer(fallback=image(IMAGE)) as server:
        wanted = {place: Item(f"{place}", b"", 0, server.url(f"/{place}")) for place in range(10)}
        rules = FetchRules(hosts=(server.place,), robots=False)
        trio.run(two)
    assert left[1] <= SIZE - 9 * len(IMAGE)


@pytest.mark.parametrize("seed", range(20))
def test_images_that_grow_at_one_time_all_come_to_an_end(seed: int) -> None:
    """Reads of many images that want more room than there is, in steps; the bound holds at each."""
    chance, size, largest = random.Random(seed), 1_000, 300
    room = Room(size)
    done: list[Share] = []

    async def one_image(part: Part, slots: trio.Semaphore) -> None:
        share, whole = Share(part), chance.randint(1, largest)
        for at in range(0, whole, 50):
            if chance.random() < 0.05:
                share.keep(0)  # it broke off, and begins anew
            await share.take(min(at + 50, whole), whole if chance.random() < 0.5 else 0)
            check()
            for _ in range(chance.randint(0, 3)):
                await trio.lowlevel.checkpoint()
        share.keep(whole)
        await trio.lowlevel.checkpoint()
        share.keep(0)
        slots.release()
        done.append(share)

    def check() -> None:
        assert sum(part.shared for part in room._parts) <= size
        for part in room._parts:
            assert part.counted == sum(share.counted for share in part.shares)
            assert all(share.taken <= share.counted for share in part.shares)
        assert sum(map(held, room._parts)) <= size + len(room._parts) * largest

    async def read() -> None:
        with room.open() as part:
            slots = trio.Semaphore(16)
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    await slots.acquire()
                    await part.begin()
                    nursery.start_soon(one_image, part, slots)

    async def all_of_them() -> None:
        with trio.fail_after(3_600):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(read)

    trio.run(all_of_them, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(done) == 150
    assert room.left == size


def test_two_that_have_half_of_it_each_and_want_more() -> None:
    async def both() -> None:
        room = Room(100)
        with room.open() as part:
            one, other = Share(part), Share(part)
            await one.take(50)
            await other.take(50)

            async def grow(share: Share) -> None:
                await share.take(90)
                share.keep(0)

            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(grow, other)
                    await trio.testing.wait_all_tasks_blocked()
                    assert other.taken == 50
                    nursery.start_soon(grow, one)
                await one.take(1_000)

    trio.run(both)


def test_a_read_that_nobody_takes_from_leaves_room_to_others() -> None:
    """Each new read has half of what is left, and its oldest image besides."""

    async def several() -> None:
        room = Room(1_024)
        for expected in (512, 256, 128, 64):
            part = room.open()
            oldest = Share(part)
            await oldest.take(1_000)
            while await taken(Share(part), 8):
                pass
            with trio.fail_after(1):
                await oldest.take(2_000)
            assert held(part) == 2_000 + expected

    trio.run(several)


def test_a_read_that_ends_gives_its_part_back() -> None:
    async def two() -> None:
        room = Room(100)
        with room.open() as part:
            await Share(part).take(10)
            await Share(part).take(40)
            assert room.left == 60
        assert room.left == 100

    trio.run(two)


def test_images_that_are_to_be_large_do_not_all_begin_at_one_time_unless_they_are_slow() -> None:
    async def many() -> None:
        room = Room()
        with room.open() as part:
            begun = 0
            while await taken(Share(part), 1_000, 32 * 1024 * 1024):
                begun += 1
            assert begun == SIZE // 2 // HOPED + 1
            late = Share(part)
            with trio.fail_after(2 * YOUNG):
                await late.take(1_000, 32 * 1024 * 1024)
                await part.begin()

    trio.run(many, clock=trio.testing.MockClock(autojump_threshold=0))
