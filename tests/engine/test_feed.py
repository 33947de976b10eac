"""How many images an engine is kept busy with: the numbers, and a machine on which they have their effect."""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.engine.base import EngineLoad
from p2pcap.engine.feed import Feed, depth
from p2pcap.project.task import Model, Prompt, Task

REPORT = 0.25
STEP = 0.02


def task(*texts: str) -> Task:
    return Task(Model("m"), tuple(Prompt(f"p{number}", text) for number, text in enumerate(texts)))


ONE = task("?")
THREE = task("a", "b", "c")
CHAIN = task("a", "{p0} b", "{p1} c", "d")


@dataclass
class Machine:
    """An engine in virtual time: a batch of `batch` requests of which memory holds `holds`, and slow decoders."""

    batch: int = 64
    holds: int = 64
    width: int = 1
    tokens: tuple[int, int] = (10, 200)
    decoders: int = 2
    decode_seconds: float = 0.01
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def run(self, feed: Feed, seconds: float, warm: float) -> tuple[float, float, float]:
        """Means after `warm` seconds: requests that run, requests that wait, images in flight."""
        decoding: deque[float] = deque()
        running: list[tuple[int, int]] = []
        waiting: deque[int] = deque()
        open_requests: dict[int, int] = {}
        seen: list[tuple[int, int, int]] = []
        images, spare = 0, 0.0
        for step in range(round(seconds / STEP)):
            while len(open_requests) + len(decoding) < feed.capacity:
                decoding.append(self.decode_seconds)
            spare += STEP * self.decoders
            while decoding and spare >= self.decode_seconds:
                spare -= decoding.popleft()
                images += 1
                open_requests[images] = self.width
                waiting.extend([images] * self.width)
            spare = min(spare, self.decoders * max(STEP, self.decode_seconds))
            while waiting and len(running) < min(self.batch, self.holds):
                running.append((waiting.popleft(), self.dice.randint(*self.tokens)))
            running = [(image, left - 1) for image, left in running]
            for image, left in running:
                if left == 0:
                    open_requests[image] -= 1
                    if open_requests[image] == 0:
                        del open_requests[image]
            running = [request for request in running if request[1] > 0]
            in_flight = len(open_requests) + len(decoding)
            if step % round(REPORT / STEP) == 0:
                feed.told(EngineLoad(running=len(running), waiting=len(waiting), decoding=len(decoding)), in_flight)
            if step * STEP >= warm:
                seen.append((len(running), len(waiting), in_flight))
        running_mean, waiting_mean, flight = (sum(row[place] for row in seen) / len(seen) for place in range(3))
        return running_mean, waiting_mean, flight


def test_a_batch_is_full_and_few_wait() -> None:
    running, waiting, _ = Machine().run(Feed(ONE, 64, 2), 120, 10)
    assert running >= 0.97 * 64  # those that end in a step are counted out of it
    assert waiting <= 20


def test_a_machine_whose_memory_holds_few_answers_is_given_few_images() -> None:
    machine = Machine(holds=20)
    running, waiting, flight = machine.run(Feed(ONE, 64, 2), 120, 10)
    assert running >= 0.95 * 20
    assert waiting <= 10
    assert flight <= 35


def test_memory_that_holds_more_later_is_used() -> None:
    machine, feed = Machine(holds=20), Feed(ONE, 64, 2)
    machine.run(feed, 60, 10)
    assert feed.capacity < 40
    machine.holds = 64
    running, _, _ = machine.run(feed, 60, 20)
    assert running >= 0.95 * 64


def test_several_prompts_an_image_need_fewer_images() -> None:
    running, waiting, flight = Machine(width=3).run(Feed(THREE, 64, 2), 120, 10)
    assert running >= 0.95 * 64
    assert waiting <= 24
    assert flight <= 45, "an image whose last answer is long keeps its place"


def test_slow_decoders_get_work_and_not_everything() -> None:
    feed = Feed(ONE, 64, 2)
    running, waiting, flight = Machine(decode_seconds=0.2).run(feed, 120, 20)
    assert waiting < 1
    assert flight <= 64 + 16 + 4
    assert running * (105 * STEP) ** -1 >= 0.9 * 2 / 0.2, "images a second, against those the decoders can make"


@pytest.mark.parametrize(("asked", "levels"), [(ONE, 1), (THREE, 1), (CHAIN, 3)])
def test_prompts_that_use_answers_come_one_after_the_other(asked: Task, levels: int) -> None:
    assert depth(asked) == levels


def test_a_small_batch_needs_few_images_and_always_one() -> None:
    assert Feed(ONE, 1, 1).capacity == 6
    assert Feed(THREE, 1, 1).capacity == 3
    assert Feed(ONE, 64, 2).capacity == 82
    assert Feed(CHAIN, 64, 2).capacity == 62, "4 prompts on 3 levels"


def test_one_report_from_a_burst_shows_no_small_batch() -> None:
    feed = Feed(ONE, 64, 2)
    assert feed.told(EngineLoad(running=3, waiting=77, decoding=2), 82) == 82


def test_an_engine_that_is_given_few_images_is_not_held_to_have_grown() -> None:
    feed = Feed(ONE, 64, 2)
    for _ in range(20):
        feed.told(EngineLoad(running=20, waiting=60), 80)
    small = feed.capacity
    assert small == 25
    for _ in range(20):
        feed.told(EngineLoad(running=5), 5)
    assert feed.capacity == small


def test_an_idle_engine_teaches_nothing() -> None:
    feed = Feed(THREE, 64, 2)
    before = feed.capacity
    for _ in range(20):
        feed.told(EngineLoad(), 0)
    assert feed.capacity == before


loads = st.builds(
    EngineLoad,
    running=st.integers(0, 300),
    waiting=st.integers(0, 300),
    kv=st.floats(0, 1),
    decoding=st.integers(0, 300),
)


@given(
    st.sampled_from([ONE, THREE, CHAIN]),
    st.integers(1, 256),
    st.integers(1, 32),
    st.lists(st.tuples(loads, st.integers(0, 400))),
)
def test_whatever_an_engine_tells_the_number_stays_within_bounds(
    asked: Task, batch: int, decoders: int, told: list[tuple[EngineLoad, int]]
) -> None:
    feed = Feed(asked, batch, decoders)
    most = batch + max(4, batch / 4) + 2 * decoders + 1
    for load, images in told:
        assert 1 <= feed.told(load, images) == feed.capacity <= most
