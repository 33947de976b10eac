"""How many pixels may be in hand, and who waits."""

import asyncio

import pytest
from PIL import Image

from p2pcap.engine.picture_room import PictureRoom, room_here

PICTURE = Image.new("RGB", (10, 10))


class Guest:
    """Takes a place, decodes when told, and leaves when told."""

    def __init__(self, room: PictureRoom) -> None:
        self.inside, self.decode, self.leave = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self._stay(room))

    async def _stay(self, room: PictureRoom) -> None:
        async with room.place() as place:
            self.inside.set()
            await self.decode.wait()
            place.decoded(PICTURE)
            await self.leave.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def inside(guests: list[Guest]) -> list[bool]:
    return [guest.inside.is_set() for guest in guests]


def test_only_so_many_are_decoded_at_once_and_who_came_first_is_first() -> None:
    async def run() -> None:
        room = PictureRoom(10_000, 2)
        guests = [Guest(room) for _ in range(4)]
        await settled()
        assert inside(guests) == [True, True, False, False]
        guests[1].decode.set()
        await settled()
        assert inside(guests) == [True, True, True, False]
        for guest in guests:
            guest.task.cancel()

    asyncio.run(run())


def test_nobody_decodes_while_too_many_pixels_are_held() -> None:
    async def run() -> None:
        room = PictureRoom(200, 1)
        guests = [Guest(room) for _ in range(4)]
        for guest in guests[:2]:
            await settled()
            guest.decode.set()
        await settled()
        assert inside(guests) == [True, True, False, False]
        guests[0].leave.set()
        await settled()
        assert inside(guests) == [True, True, True, False]
        for guest in guests:
            guest.task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("cancelled", [0, 1])
def test_who_goes_away_leaves_the_room_as_it_was(cancelled: int) -> None:
    """Cancelled with a place, and cancelled while waiting for one, in the turn in which it came as well."""

    async def run() -> None:
        room = PictureRoom(100, 1)
        guests = [Guest(room) for _ in range(3)]
        await settled()
        guests[cancelled].task.cancel()
        if cancelled:
            guests[0].task.cancel()
            guests[1].task.cancel()
        await settled()
        rest = guests[cancelled + 1]
        assert rest.inside.is_set()
        rest.decode.set()
        rest.leave.set()
        for guest in guests[cancelled + 2 :]:
            guest.decode.set()
            guest.leave.set()
            await guest.task
        await rest.task
        last = Guest(room)
        await settled()
        assert last.inside.is_set()
        last.task.cancel()

    asyncio.run(run())


def test_this_machine_has_room_for_the_largest_picture() -> None:
    async def run() -> None:
        async with room_here(1).place():
            pass

    asyncio.run(run())
