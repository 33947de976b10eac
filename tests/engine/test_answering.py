"""How prompts of an image are asked, answered and asked again, with a backend that does as it is told."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import msgspec
import pytest
from PIL import Image

from p2pcap.engine.answering import ATTEMPTS, Answering, Generated, Question, levels
from p2pcap.engine.base import Finish, Output, Score, Spelt
from p2pcap.engine.decoding import Decoders
from p2pcap.engine.picture_room import PictureRoom
from p2pcap.errors import EngineDied, ImageError, ModelError
from p2pcap.project.sampling import Format, OutputPolicy
from p2pcap.project.task import Model, Prompt, Task

PICTURE = Image.new("RGB", (8, 8))
SHA = bytes(range(32))
T = TypeVar("T")
Text = Callable[[Question], "str | Generated | Exception"]


class Twin:
    """Answers with what `text` says, once `gate` lets it."""

    def __init__(self, text: Text, gate: Callable[[Question], Awaitable[None]] | None = None) -> None:
        self.asked: list[Question] = []
        self.given_up: list[Question] = []
        self._text = text
        self._gate = gate

    async def generate(self, question: Question) -> Generated:
        self.asked.append(question)
        try:
            if self._gate is not None:
                await self._gate(question)
        except asyncio.CancelledError:
            self.given_up.append(question)
            raise
        made = self._text(question)
        if isinstance(made, Exception):
            raise made
        return made if isinstance(made, Generated) else Generated(made, len(made), "stop", (1, 2))

    async def score(self, question: Question, ids: Sequence[int]) -> Score:
        self.asked.append(question)
        return Score(tuple(map(float, ids)), ())

    def spell(self, number: int, ids: Sequence[int], finish: Finish) -> Spelt:
        return Spelt("".join(map(chr, ids)), ended=finish == "length")

    def cut(self, number: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        return (tuple(map(ord, text)),)


class Pictures:
    """Decodes any file to the same picture, and "bad" to an error."""

    def __init__(self) -> None:
        self.edges: list[int] = []

    def submit(self, file: bytes, edge: int) -> "Future[Image.Image]":
        self.edges.append(edge)
        future: Future[Image.Image] = Future()
        if file == b"bad":
            future.set_exception(ImageError("undecodable", "no"))
        elif file != b"slow":
            future.set_result(PICTURE)
        return future


def task(*prompts: Prompt, **more: Any) -> Task:
    return Task(model=Model("m"), prompts=prompts or (Prompt("describe", "Describe."),), **more)


def answering(task: Task, twin: Twin, pictures: Pictures | None = None) -> Answering:
    return Answering(task, twin, cast(Decoders, pictures or Pictures()), PictureRoom(10**9, 8))


def caption(task: Task, twin: Twin, fields: Mapping[str, str] | None = None, file: bytes = b"") -> tuple[Output, ...]:
    return asyncio.run(answering(task, twin).caption(file, SHA, fields or {}))


def fault(task: Task, twin: Twin) -> ImageError:
    with pytest.raises(ImageError) as raised:
        caption(task, twin)
    return raised.value


THREE = (Prompt("one", "1"), Prompt("two", "2"), Prompt("three", "3"))
CHAIN = (
    Prompt("one", "1"),
    Prompt("two", "{one}"),
    Prompt("three", "3"),
    Prompt("four", "4", system="{two} {three}", image=False),
)


def test_one_answer_a_prompt_in_the_prompts_order() -> None:
    outputs = caption(task(*THREE), Twin(lambda question: f" answer {question.number}\n"))
    assert [output.text for output in outputs] == ["answer 0", "answer 1", "answer 2"]
    assert outputs[0] == Output("answer 0", len(" answer 0\n"), "stop", (1, 2))


def test_the_image_is_decoded_once_and_shown_where_it_is_wanted() -> None:
    pictures = Pictures()
    twin = Twin(lambda question: "x")
    asyncio.run(answering(task(*CHAIN, image_edge=99), twin, pictures).caption(b"", SHA, {}))
    assert pictures.edges == [99]
    assert {question.number: question.image for question in twin.asked} == {0: PICTURE, 1: PICTURE, 2: PICTURE, 3: None}
    assert {question.sha256 for question in twin.asked} == {SHA}


def test_prompts_that_do_not_need_each_other_are_asked_together() -> None:
    async def ask() -> None:
        everyone = asyncio.Barrier(3)

        async def wait(question: Question) -> None:
            await everyone.wait()

        await answering(task(*THREE), Twin(lambda question: "x", wait)).caption(b"", SHA, {})

    asyncio.run(ask())


def test_a_prompt_gets_the_answers_that_it_needs_and_the_image_s_fields() -> None:
    twin = Twin(lambda question: f"answer {question.number} ")
    caption(task(*CHAIN, fields=("title", "one")), twin, {"title": "T", "one": "a field of that name"})
    values = {question.number: question.values for question in twin.asked}
    assert values[0] == values[2] == {"title": "T", "one": "a field of that name"}
    assert values[1] == {"title": "T", "one": "answer 0", "three": "answer 2"}
    assert values[3]["two"] == "answer 1"


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ([()], [[0]]),
        ([(), (), ()], [[0, 1, 2]]),
        ([(), (0,), (), (1, 2)], [[0, 2], [1], [3]]),
        ([(), (0,), (0,), (2,)], [[0], [1, 2], [3]]),
    ],
)
def test_each_prompt_is_asked_as_soon_as_it_can_be(needs: list[tuple[int, ...]], expected: list[list[int]]) -> None:
    assert levels(needs) == expected


def test_what_is_no_answer_is_asked_for_once_more() -> None:
    twin = Twin(lambda question: "" if question.attempt == 0 else "a cat")
    (output,) = caption(task(), twin)
    assert output.text == "a cat"
    assert [question.attempt for question in twin.asked] == [0, 1]


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ("", "empty-output"),
        ("NO, I will not", "refusal"),
        ("no. " + "cat " * 50, "refusal"),
        ("cat " * 50, "repetition"),
        (Generated("a cat", 1, "length"), "unfinished"),
        (Generated("a cat", 1, "error"), "rejected"),
        ("yes", "bad-format"),
    ],
)
def test_what_is_no_answer_twice_ends_the_image(made: str | Generated, code: str) -> None:
    policy = OutputPolicy(refusals=("no",), loops=True, whole=True)
    twin = Twin(lambda question: made)
    error = fault(task(Prompt("p", "?", format=Format("choice", choices=("a cat",))), output=policy), twin)
    assert error.code == code
    assert len(twin.asked) == ATTEMPTS


def test_among_several_prompts_the_fault_names_its_own() -> None:
    twin = Twin(lambda question: "" if question.number == 1 else "x")
    assert "(prompt two)" in str(fault(task(*THREE), twin))
    assert "(prompt" not in str(fault(task(), Twin(lambda question: "")))


def test_a_prompt_s_format_is_its_own() -> None:
    prompts = (Prompt("any", "?"), Prompt("colour", "?", format=Format("choice", choices=("red",))))
    outputs = caption(task(*prompts), Twin(lambda question: "red" if question.number else "what it likes"))
    assert [output.text for output in outputs] == ["what it likes", "red"]
    with pytest.raises(ModelError):
        answering(task(Prompt("p", "?", format=Format("regex", "("))), Twin(lambda question: "x"))


@pytest.mark.parametrize("error", [ImageError("rejected", "no"), EngineDied("gone"), KeyError("a defect")])
def test_the_first_failure_gives_up_the_image_s_other_prompts(error: Exception) -> None:
    async def ask() -> Twin:
        async def wait(question: Question) -> None:
            if question.number != 1:
                await asyncio.Event().wait()

        twin = Twin(lambda question: error, wait)
        with pytest.raises(type(error)):
            await answering(task(*THREE), twin).caption(b"", SHA, {})
        return twin

    assert sorted(question.number for question in asyncio.run(ask()).given_up) == [0, 2]


def test_an_engine_that_died_is_not_the_image_s_fault() -> None:
    twin = Twin(lambda question: EngineDied("gone") if question.number == 2 else ImageError("rejected", "no"))
    with pytest.raises(EngineDied):
        caption(task(*THREE), twin)


def test_a_cancelled_image_leaves_nothing_with_the_backend() -> None:
    async def ask() -> Twin:
        started = asyncio.Semaphore(0)

        async def wait(question: Question) -> None:
            started.release()
            await asyncio.Event().wait()

        twin = Twin(lambda question: "x", wait)
        work = asyncio.create_task(answering(task(*THREE), twin).caption(b"", SHA, {}))
        for _ in range(3):
            await started.acquire()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return twin

    assert len(asyncio.run(ask()).given_up) == 3


def test_an_image_that_cannot_be_decoded_is_asked_nothing() -> None:
    twin = Twin(lambda question: "x")
    with pytest.raises(ImageError, match="undecodable"):
        caption(task(), twin, file=b"bad")
    assert twin.asked == []


def test_images_that_are_being_decoded_are_counted() -> None:
    async def ask() -> list[int]:
        one = answering(task(), Twin(lambda question: "x"))
        work = [asyncio.create_task(one.caption(b"slow", SHA, {})) for _ in range(3)]
        await asyncio.sleep(0)
        counts = [one.decoding]
        for each in work:
            each.cancel()
        await asyncio.wait(work)
        return [*counts, one.decoding]

    assert asyncio.run(ask()) == [3, 0]


def test_an_answer_is_scored_with_its_prompt() -> None:
    twin = Twin(lambda question: "x")
    one = answering(task(*CHAIN), twin)
    assert asyncio.run(one.score(b"", SHA, 3, (5, 6), {"two": "x"})) == Score((5.0, 6.0), ())
    assert asyncio.run(one.score(b"", SHA, 0, (5,), {})).margins == (5.0,)
    assert [(question.number, question.image) for question in twin.asked] == [(3, None), (0, PICTURE)]
    with pytest.raises(ImageError, match="unscorable"):
        asyncio.run(one.score(b"", SHA, 4, (5,), {}))


def test_tasks_share_a_backend_and_keep_their_own_answers() -> None:
    first, second = task(), msgspec.structs.replace(task(), output=OutputPolicy(least=50))
    twin = Twin(lambda question: "a cat")

    async def ask() -> list[Any]:
        tasks = [answering(one, twin).caption(b"", SHA, {}) for one in (first, second, first)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    good, short, again = asyncio.run(ask())
    assert good == again
    assert isinstance(short, ImageError)
