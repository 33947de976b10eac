"""Workers of several stages, in simulated time: a stage asks about what another has answered, and says what it used."""

import msgspec
import trio
from msgspec import UNSET

from p2pcap.engine.base import Output
from p2pcap.errors import ImageError
from p2pcap.ledger.given import given_hash
from p2pcap.project.records import Policy, Stage
from p2pcap.project.task import Input, Prompt
from tests.makers import TASK, Made, image_bytes, make_project, signed
from tests.twins import AUTHORS, ME, OTHER, TwinEngine, TwinStation, TwinSwarm, each_once, places, simulated, uneven

SHORTEN = msgspec.structs.replace(
    TASK,
    prompts=(Prompt("short", "Shorten: {look.caption}"), Prompt("tags", "As tags: {look.caption}")),
    inputs=(Input("look", TASK.tid, ("caption",)),),
)


def two_stages(*counts: int, attempts: int = 3) -> Made:
    made = make_project(counts)
    stages = (Stage("look", TASK), Stage("short", SHORTEN))
    plan = msgspec.structs.replace(made.project.plan, stages=stages, policy=Policy(attempts=attempts))
    return Made(signed(plan), made.items)


class Shortener(TwinEngine):
    """Answers both prompts."""

    async def _caption(self, image: bytes, died: trio.Event) -> tuple[Output, ...]:
        (said,) = await super()._caption(image, died)
        return said, said


def used(station: TwinStation) -> dict[tuple[int, int], object]:
    return {(chunk, row.item): row.given for chunk, row in station.rows}


@simulated
async def test_each_stage_does_every_image_once_the_second_after_the_first() -> None:
    made = two_stages(100, 64, 64)
    look, short = TwinEngine(8, uneven), Shortener(8, uneven)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery, delay=0.5)
        _, first = swarm.join(ME, look)
        _, second = swarm.join(OTHER, short, stage=1)
        await swarm.work()
    assert places(first) == places(second) == each_once(made)
    assert set(used(first).values()) == {UNSET}
    for (chunk, item), given in used(second).items():
        text = {"look.caption": f"caption of {image_bytes(chunk, item).decode()}"}
        assert short.told[image_bytes(chunk, item)] == text
        assert given == given_hash(text)
    assert set(map(frozenset, look.told.values())) == {frozenset()}


@simulated
async def test_what_nobody_could_look_at_is_asked_of_nobody() -> None:
    made = two_stages(64)
    short, broken = Shortener(8), image_bytes(0, 7)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        for author in (ME, OTHER):
            engine = TwinEngine(8)
            engine.faulty = {broken: ImageError("undecodable", "no image")}
            swarm.join(author, engine)
        _, second = swarm.join(AUTHORS[2], short, stage=1)
        await swarm.work()
    assert places(second) == {place: 1 for place in each_once(made) if place != (0, 7)}
    assert broken not in short.asked


@simulated
async def test_answers_whose_bodies_are_not_here_are_waited_for_and_cost_no_try() -> None:
    made = two_stages(64, 64, attempts=1)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        first, _ = swarm.join(ME, TwinEngine(8))
        second, station = swarm.join(OTHER, Shortener(8), stage=1)
        station.bodiless = {(0, 3), *((1, index) for index in range(64))}
        nursery.start_soon(first.run)
        nursery.start_soon(second.run)
        await trio.sleep(600)
        assert places(station) == {place: 1 for place in each_once(made) if place not in station.bodiless}
        station.bodiless = set()
        await trio.sleep(3_600)
        assert places(station) == each_once(made)
        assert not any(row.error for _, row in station.rows)
        first.finish()
        second.finish()
