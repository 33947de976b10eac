"""What one item is, by an engine that says what it is told to say."""

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec

import msgspec
import pytest
import trio

from p2pcap.audit.checking import MANY, Checking, Outcome, Shown, Word, earlier, together
from p2pcap.audit.findings import MAX_SCORES, findings
from p2pcap.audit.pace import OWN_FOR_ONE, SAVED, Pace
from p2pcap.engine.base import Finish, Spelt
from p2pcap.errors import EngineDied, ImageError
from p2pcap.ledger.evidence import Ids
from p2pcap.ledger.records import Answer, Row
from p2pcap.project.audit import NO_LIMIT, Audit, Bound, Honest, Likeness, Limits
from p2pcap.project.task import Model, Prompt, Task
from tests.twins import TwinEngine

TASK = Task(Model("tiny"), (Prompt("caption", "What is it?"),))
LIMITS = Limits(cap=5_000, unsure=Bound(50, 500, 990), bad=Bound(500, 2_000, 900), plain=Bound(3_000, NO_LIMIT, 300))
BY_TOKENS = Audit("tokens", Honest(5_000, 0, 3), (), 3, limits=(LIMITS,))
BY_TEXT = Audit("agreement", Honest(5_000, 0, 3), (), 3, likeness=(Likeness(unsure=800, bad=400),))
IMAGE = Shown(b"i" * 32, b"picture")
SAID = "a red circle on a blue field"
CLASS = b"twintwin"

P = ParamSpec("P")


def on_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


def row(text: str, tokens: int | None = None, finish: Finish = "stop", image: bytes = IMAGE.hash) -> Row:
    return Row(3, image, (Answer(text, len(text) if tokens is None else tokens, finish),))


def error(code: str) -> Row:
    return Row(3, IMAGE.hash, (), code, "no")


def letters(text: str) -> Ids:
    return (tuple(map(ord, text)),)


async def check(row: Row, ids: Ids = (), audit: Audit = BY_TOKENS, engine: TwinEngine | None = None) -> Outcome:
    engine = engine or TwinEngine()
    engine.texts[IMAGE.data] = engine.texts.get(IMAGE.data, SAID)
    return await Checking(TASK, audit, engine).answers(IMAGE, row, ids, {}, CLASS)


@on_trio
async def test_what_the_model_says_itself_is_right() -> None:
    outcome = await check(row(SAID), letters(SAID))
    assert (outcome.word, outcome.method, len(outcome.numbers)) == ("ok", "tokens", 8)


@on_trio
async def test_one_word_that_it_does_not_say_is_found() -> None:
    edited = SAID.replace("red", "big")
    assert (await check(row(edited), letters(edited))).word == "bad"


@on_trio
async def test_tokens_of_another_text_prove_nothing_about_this_one() -> None:
    assert await check(row(SAID.replace("red", "big"), len(SAID)), letters(SAID)) == Outcome("bad", "tokens")


@on_trio
async def test_another_number_of_tokens_than_is_told_is_a_lie() -> None:
    assert await check(row(SAID, 5), letters(SAID)) == Outcome("bad", "tokens")


class NoEnd(TwinEngine):
    """Its tokens have no end that it knows."""

    certain = True

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        spelt = await super().spell(prompt, ids, finish)
        return msgspec.structs.replace(spelt, ended=False, certain=self.certain)


@on_trio
async def test_an_answer_without_its_end_is_found_where_that_can_be_told() -> None:
    engine = NoEnd()
    assert await check(row(SAID), letters(SAID), engine=engine) == Outcome("bad", "tokens")
    engine.certain = False
    assert await check(row(SAID), letters(SAID), engine=engine) == Outcome("unsure", "tokens")


@on_trio
async def test_an_answer_that_claims_to_be_cut_must_be_cut_here_as_well() -> None:
    short = SAID[:9]
    assert await check(row(short, finish="length"), letters(short)) == Outcome("bad", "tokens")


class Narrow(TwinEngine):
    """Its context ends after nine letters."""

    async def caption(self, *args: Any, **kwargs: Any) -> Any:
        return tuple(
            msgspec.structs.replace(one, text=one.text[:9], tokens=9, finish="length")
            for one in await super().caption(*args, **kwargs)
        )


@on_trio
async def test_an_answer_that_the_context_cuts_is_right() -> None:
    short = SAID[:9]
    assert (await check(row(short, finish="length"), letters(short), engine=Narrow())).word == "ok"


@on_trio
async def test_without_tokens_the_text_is_cut_and_bad_only_when_it_is_plainly_wrong() -> None:
    assert (await check(row(SAID))).word == "ok"
    outcome = await check(row(SAID.replace("red", "big")))
    assert (outcome.word, outcome.method) == ("unsure", "text")
    assert (await check(row("three dogs play in the old snow"))).word == "bad"


@on_trio
async def test_nobody_is_bad_by_a_measure_of_other_engines() -> None:
    edited = SAID.replace("red", "rod")
    limits = msgspec.structs.replace(LIMITS, bad=Bound(500, 4_000, 900))
    other = msgspec.structs.replace(BY_TOKENS, limits=(limits,), classes=(b"anothers",))
    assert (await check(row(edited), letters(edited), audit=other)).word == "unsure"
    assert (await check(row(SAID), letters("another text of two"), audit=other)).word == "unsure"
    mine = msgspec.structs.replace(BY_TOKENS, classes=(CLASS,))
    assert (await check(row(edited), letters(edited), audit=mine)).word == "bad"


@on_trio
async def test_what_is_far_beyond_the_limits_is_bad_whatever_engine_its_author_names() -> None:
    lazy = "three dogs play in the old snow"
    other = msgspec.structs.replace(BY_TOKENS, classes=(b"anothers",))
    assert (await check(row(lazy), letters(lazy), audit=other)).word == "bad"
    agreed = msgspec.structs.replace(BY_TEXT, classes=(b"anothers",))
    assert (await check(row("a red star"), audit=agreed)).word == "unsure"
    assert (await check(row("what"), audit=agreed)).word == "bad"


class Fussy(TwinEngine):
    """Does not take an answer with a tilde in its tokens."""

    async def score(self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], *args: Any) -> Any:
        if ord("~") in ids:
            raise ImageError("unscorable", "no")
        return await super().score(image, sha256, prompt, ids, *args)

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        return await super().spell(prompt, [one for one in ids if one != ord("~")], finish)


@on_trio
async def test_tokens_that_cannot_be_read_are_no_shelter() -> None:
    lazy = "three dogs play in the old snow"
    assert (await check(row(lazy, len(lazy) + 1), letters("~" + lazy), engine=Fussy())).word == "bad"
    assert (await check(row(SAID, len(SAID) + 1), letters("~" + SAID), engine=Fussy())).word == "ok"


@on_trio
async def test_another_image_is_said_to_be_another() -> None:
    assert await check(row(SAID, image=b"o" * 32), letters(SAID)) == Outcome("differs", "image")


class Blind(TwinEngine):
    """Cannot score, as a server with OpenAI's interface."""

    async def score(self, *args: Any, **kwargs: Any) -> Any:
        raise ImageError("unscorable", "no")


@on_trio
async def test_what_cannot_be_scored_is_unsure() -> None:
    assert await check(row("no"), letters("no"), engine=Blind()) == Outcome("unsure", "text")
    assert await check(row("no"), engine=Blind()) == Outcome("unsure", "text")


@pytest.mark.parametrize(
    ("text", "word"),
    [(SAID, "ok"), ("a red circle in a blue field", "unsure"), ("three dogs play in the old snow", "bad")],
)
def test_by_agreement_the_texts_are_compared(text: str, word: str) -> None:
    @on_trio
    async def run() -> None:
        outcome = await check(row(text), letters(text), audit=BY_TEXT)
        assert (outcome.word, outcome.method) == (word, "agreement")

    run()


def test_an_answer_is_read_with_the_claimed_ones_before_it() -> None:
    task = Task(Model("tiny"), tuple(Prompt(name, "?") for name in ("one", "two", "three")))
    three = Row(0, bytes(32), tuple(Answer(text, 1, "stop") for text in "xyz"))
    assert [earlier(task, three, number) for number in range(3)] == [{}, {"one": "x"}, {"one": "x", "two": "y"}]


@pytest.mark.parametrize(("code", "word"), [("undecodable", "bad"), ("gone", "unsure"), ("refusal", "unsure")])
def test_an_error_that_has_an_answer_here(code: str, word: Word) -> None:
    @on_trio
    async def run() -> None:
        assert await Checking(TASK, BY_TOKENS, TwinEngine()).error(IMAGE, error(code), {}) == Outcome(word, "retry")

    run()


@on_trio
async def test_an_error_that_is_one_here_too_is_confirmed() -> None:
    engine = TwinEngine()
    engine.faulty[IMAGE.data] = ImageError("truncated", "no")
    checking = Checking(TASK, BY_TOKENS, engine)
    assert await checking.error(IMAGE, error("undecodable"), {}) == Outcome("ok", "retry")
    assert await checking.error(ImageError("gone", "no"), error("refused"), {}) == Outcome("ok", "retry")


DOUBT, BAD, RIGHT = Outcome("unsure", "retry"), Outcome("bad", "retry"), Outcome("ok", "retry")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([DOUBT] * (MANY - 1), [DOUBT] * (MANY - 1)),
        ([DOUBT] * MANY, [BAD] * MANY),
        ([DOUBT] * MANY + [RIGHT], [DOUBT] * MANY + [RIGHT]),
        ([DOUBT] * MANY + [Outcome("unsure", "tokens")], [BAD] * MANY + [Outcome("unsure", "tokens")]),
    ],
)
def test_many_errors_that_have_answers_are_lies(before: Sequence[Outcome], after: Sequence[Outcome]) -> None:
    assert together(dict(enumerate(before))) == dict(enumerate(after))


def test_a_finding_for_each_word_and_method() -> None:
    numbers = bytes(range(8))
    outcomes = {7: Outcome("ok", "tokens", numbers), 2: Outcome("ok", "tokens", numbers[::-1]), 63: BAD, 0: DOUBT}
    made = findings(b"m" * 8, b"r" * 32, outcomes, 12.9)
    assert {(one.verdict, one.method, int.from_bytes(one.items, "little"), one.scores, one.time) for one in made} == {
        ("ok", "tokens", 1 << 7 | 1 << 2, numbers[::-1] + numbers, 12),
        ("bad", "retry", 1 << 63, b"", 12),
        ("unsure", "retry", 1, b"", 12),
    }


def test_numbers_that_do_not_fit_are_left_out_as_a_whole() -> None:
    outcomes = {place: Outcome("ok", "tokens", bytes([place]) * 24) for place in range(64)}
    (made,) = findings(b"m" * 8, b"r" * 32, outcomes, 0)
    assert len(made.scores) == MAX_SCORES // 24 * 24
    assert made.scores[-24:] == bytes([MAX_SCORES // 24 - 1]) * 24


def test_checks_wait_for_own_work_while_there_is_some() -> None:
    pace, done = Pace(0), 0
    for made in range(101):
        while pace.may(made, busy=True):
            pace.took(busy=True)
            done += 1
    assert done == SAVED + 100 // OWN_FOR_ONE
    assert pace.may(100, busy=False)


def test_idle_time_saves_up_no_more_than_a_few_checks() -> None:
    pace = Pace(0)
    for _ in range(1_000):
        assert pace.may(0, busy=False)
        pace.took(busy=False)
    done = 0
    while pace.may(10_000, busy=True):
        pace.took(busy=True)
        done += 1
    assert done == SAVED


THREE = Task(Model("tiny"), tuple(Prompt(name, "What is it?") for name in ("one", "two", "three")))


@on_trio
async def test_all_answers_of_an_item_are_asked_about_at_once_and_the_worst_counts() -> None:
    engine = TwinEngine()
    engine.texts[IMAGE.data] = SAID
    audit = msgspec.structs.replace(BY_TOKENS, limits=(LIMITS,) * 3)
    edited = SAID.replace("red", "big")
    answers = tuple(Answer(text, len(text), "stop") for text in (SAID, edited, SAID))
    three = Row(3, IMAGE.hash, answers)
    ids = tuple(tuple(map(ord, answer.text)) for answer in answers)
    outcome = await Checking(THREE, audit, engine).answers(IMAGE, three, ids, {}, CLASS)
    assert (outcome.word, len(outcome.numbers)) == ("bad", 24)
    assert engine.most == 3


@on_trio
async def test_an_engine_that_dies_of_one_answer_says_so_once() -> None:
    engine = TwinEngine()
    engine.poison.add(IMAGE.data)
    audit = msgspec.structs.replace(BY_TOKENS, limits=(LIMITS,) * 3)
    answer = Answer(SAID, len(SAID), "stop")
    with pytest.raises(EngineDied):
        await Checking(THREE, audit, engine).answers(
            IMAGE, Row(3, IMAGE.hash, (answer,) * 3), letters(SAID) * 3, {}, CLASS
        )
