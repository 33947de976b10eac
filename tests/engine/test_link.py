"""The node's end of the socket, with the test in the place of the process."""

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio

from p2pcap.engine import frames
from p2pcap.engine.base import EngineLoad, Output, Score
from p2pcap.engine.link import Link
from p2pcap.errors import EngineDied, ImageError, ModelError
from p2pcap.project.task import Model, Prompt, Task
from tests.engine.process_twin import ProcessTwin
from tests.twins import simulated

OUTPUTS = (Output("a cat", 3, "stop"),)


def linked(test: Callable[[Link, ProcessTwin, trio.Nursery], Awaitable[None]]) -> list[frames.ToNode]:
    heard: list[frames.ToNode] = []

    async def main() -> None:
        ours, theirs = trio.socket.socketpair()
        link, twin = Link(ours, heard.append), ProcessTwin(theirs)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run)
                async with twin.stream:  # closed in any case: nothing else ends link.run
                    await test(link, twin, nursery)

    trio.run(main)
    return heard


def test_answers_find_their_callers_in_any_order() -> None:
    answers = {}

    async def ask(link: Link, name: bytes) -> None:
        answers[name] = await link.ask(name, bytes(32))

    async def test(link: Link, twin: ProcessTwin, _: trio.Nursery) -> None:
        async with trio.open_nursery() as nursery:
            for name in (b"one", b"two", b"three"):
                nursery.start_soon(ask, link, name)
            asked = [await twin.hear() for _ in range(3)]
            for message in reversed(asked):
                assert isinstance(message, frames.Ask)
                await twin.say(frames.Answer(message.number, (Output(message.image.decode(), 1, "stop"),)))

    linked(test)
    assert {name: outputs[0].text for name, outputs in answers.items()} == {
        b"one": "one",
        b"two": "two",
        b"three": "three",
    }


def test_a_fault_is_raised_where_it_was_asked() -> None:
    async def test(link: Link, twin: ProcessTwin, nursery: trio.Nursery) -> None:
        nursery.start_soon(twin.say, frames.Fault(0, "truncated", "The file ends."))
        with pytest.raises(ImageError, match="truncated"):
            await link.ask(b"x", bytes(32))

    linked(test)


async def reply(twin: ProcessTwin, heard: list[frames.ToEngine], *messages: frames.ToNode) -> None:
    for message in messages:
        heard.append(await twin.hear())
        await twin.say(message)


def test_a_score_is_asked_for_and_comes_back() -> None:
    score = Score((0.0, 2.0), (-0.1, -3.0))
    heard: list[frames.ToEngine] = []

    async def test(link: Link, twin: ProcessTwin, nursery: trio.Nursery) -> None:
        nursery.start_soon(reply, twin, heard, frames.Scored(0, score), frames.Fault(1, "unscorable", "No tokens."))
        assert await link.score(b"x", bytes(32), 1, [5, 2], {"describe": "a cat"}, 3) == score
        with pytest.raises(ImageError, match="unscorable"):
            await link.score(b"x", bytes(32), 1, [5, 2])

    linked(test)
    assert heard[0] == frames.Score(0, bytes(32), b"x", 1, (5, 2), {"describe": "a cat"}, 3)


def test_a_task_is_taken_or_refused_with_a_sentence() -> None:
    task = Task(Model("m"), (Prompt("describe", "What is it?"),))
    heard: list[frames.ToEngine] = []

    async def test(link: Link, twin: ProcessTwin, nursery: trio.Nursery) -> None:
        nursery.start_soon(reply, twin, heard, frames.Used(0), frames.Used(1, "Its template is broken."))
        await link.use(task, 1)
        with pytest.raises(ModelError, match=r"Its template is broken\."):
            await link.use(task, 2)

    linked(test)
    assert heard == [frames.Use(0, task, 1), frames.Use(1, task, 2)]


def test_other_messages_are_passed_on() -> None:
    async def test(link: Link, twin: ProcessTwin, _: trio.Nursery) -> None:
        await twin.say(frames.Progress("one"), frames.Progress("two"))

    assert linked(test) == [frames.Progress("one"), frames.Progress("two")]


def test_a_cancelled_call_is_taken_back_and_its_late_answer_dropped() -> None:
    async def answer_second(twin: ProcessTwin) -> None:
        assert isinstance(await twin.hear(), frames.Ask)
        await twin.say(frames.Answer(0, (Output("late", 1, "stop"),)), frames.Answer(1, OUTPUTS))

    async def test(link: Link, twin: ProcessTwin, nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as callers:
            callers.start_soon(link.ask, b"first", bytes(32))
            assert isinstance(await twin.hear(), frames.Ask)
            callers.cancel_scope.cancel()
        assert await twin.hear() == frames.Cancel(0)
        nursery.start_soon(answer_second, twin)
        assert await link.ask(b"second", bytes(32)) == OUTPUTS

    linked(test)


@pytest.mark.parametrize("last", [b"", b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"], ids=["end", "too long", "no message"])
def test_every_open_call_ends_when_the_process_does(last: bytes) -> None:
    ended = []

    async def ask(link: Link) -> None:
        with pytest.raises(EngineDied):
            await link.ask(b"x", bytes(32))
        ended.append(link.fault)

    async def test(link: Link, twin: ProcessTwin, nursery: trio.Nursery) -> None:
        for _ in range(20):
            nursery.start_soon(ask, link)
        await twin.hear()
        await twin.stream.send_all(last)
        if not last:
            await twin.stream.aclose()
        await link.closed.wait()
        with pytest.raises(EngineDied):
            await link.ask(b"x", bytes(32))

    linked(test)
    assert len(ended) == 20
    assert all(bool(fault) == bool(last) for fault in ended)


def test_much_that_is_asked_at_once_arrives_whole() -> None:
    images = [bytes([number]) * size for number, size in enumerate((10, 3_000_000, 0, 700_000, 5) * 8)]
    came: list[bytes] = []

    async def test(link: Link, twin: ProcessTwin, nursery: trio.Nursery) -> None:
        async def caller(image: bytes) -> None:
            assert await link.ask(image, bytes(32)) == OUTPUTS

        async with trio.open_nursery() as callers:
            for image in images:
                callers.start_soon(caller, image)
            for _ in images:
                ask = await twin.hear()
                assert isinstance(ask, frames.Ask)
                came.append(ask.image)
                await twin.say(frames.Answer(ask.number, OUTPUTS))

    linked(test)
    assert sorted(came) == sorted(images)


@simulated
async def test_a_process_is_quiet_while_it_has_work_and_shows_none() -> None:
    ours, theirs = trio.socket.socketpair()
    link, twin = Link(ours, lambda message: None), ProcessTwin(theirs)

    async def ask(name: bytes) -> None:
        with contextlib.suppress(EngineDied, ImageError):
            await link.ask(name, bytes(32))

    async def quiet_after(seconds: float) -> float:
        await trio.sleep(seconds)
        return trio.current_time() - link.quiet_since

    async def shown(*messages: frames.ToNode) -> float:
        await twin.say(*messages)
        return await quiet_after(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        assert await quiet_after(1_000) == 0, "it has nothing to do"
        nursery.start_soon(ask, b"first")
        assert await quiet_after(10) == 10
        for name in (b"second", b"third", b"fourth"):
            nursery.start_soon(ask, name)
        assert await quiet_after(10) == 20, "more work is no answer"
        assert await shown(frames.Answer(0, OUTPUTS)) == 1, "another has been answered"
        assert await quiet_after(10) == 11
        assert await shown(frames.Fault(2, "truncated", "The file ends.")) == 1
        assert await shown(frames.Load(EngineLoad(running=1, read=7))) == 1, "it has read"
        assert await shown(frames.Load(EngineLoad(running=1, read=7, made=1))) == 1, "it has made a token"
        assert await shown(frames.Load(EngineLoad(running=1, kv=0.5, read=7, made=1)), frames.Used(77)) == 2
        assert await shown(frames.Answer(1, OUTPUTS), frames.Answer(3, OUTPUTS)) == 0, "all is answered"
        await twin.stream.aclose()
