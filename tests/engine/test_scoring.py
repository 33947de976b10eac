"""Answers that somebody claims, read by a real model."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import trio

from models.shapes.pictures import draw, encode
from p2pcap.engine.base import Output, Score
from p2pcap.engine.scoring import must_be_answer, score
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.errors import ImageError
from tests.engine.hosted import HostedEngine

FILES = [encode(draw("held-out", number, 0), "jpg") for number in range(32)]
END, IMAGE, USER = 2, 3, 1


@dataclass
class Told:
    """As vLLM tells the likelihoods of a prompt."""

    start_indices: list[int]
    end_indices: list[int]
    token_ids: list[int]
    logprobs: list[float]


def told(*entries: Mapping[int, float]) -> Told:
    """Of each place the prompt's own token first; of the first place nothing is told."""
    ends = list(itertools.accumulate(map(len, entries), initial=0))
    flat = [pair for entry in entries for pair in entry.items()]
    return Told([0, *ends[:-1]], [0, *ends[1:]], [token for token, _ in flat], [logprob for _, logprob in flat])


def test_a_margin_is_how_much_likelier_another_token_was() -> None:
    entries = told({8: -9.0, 4: -1.0}, {5: -0.5}, {6: -3.0, 7: -0.25})
    assert score((5, 6), entries) == Score((0.0, 2.75), (-0.5, -3.0))


@pytest.mark.parametrize("entries", [None, told(), told({6: 0.0}), told({5: 0.0}), told({5: 0.0}, {7: 0.0, 6: -1.0})])
def test_an_engine_that_tells_too_little_cannot_score(entries: Told | None) -> None:
    with pytest.raises(ImageError, match="unscorable"):
        score((5, 6), entries)


@pytest.mark.parametrize("ids", [(), (99,), (-1,), (5, 1), (1, 5), (5, 2, 5), (3, 5, 2), (2, 2)])
def test_what_is_no_answer_is_not_read(ids: Sequence[int]) -> None:
    with pytest.raises(ImageError, match="unscorable"):
        must_be_answer(ids, 99, {1, 2, 3}, {2})


@pytest.mark.parametrize("ids", [(5,), (5, 2), (2,), (0, 98)])
def test_what_may_be_an_answer_is_read(ids: Sequence[int]) -> None:
    must_be_answer(ids, 99, {1, 2, 3}, {2})


Outputs = list[tuple[Output, ...]]


@pytest.fixture(scope="module")
def answers(hosted: HostedEngine) -> Outputs:
    return hosted.run(all_answers)


async def all_answers(engine: VllmEngine) -> Outputs:
    made: dict[int, tuple[Output, ...]] = {}

    async def one(number: int) -> None:
        made[number] = await engine.caption(FILES[number], hashlib.sha256(FILES[number]).digest())

    async with trio.open_nursery() as nursery:
        for number in range(len(FILES)):
            nursery.start_soon(one, number)
    return [made[number] for number in range(len(FILES))]


def scores(hosted: HostedEngine, claims: Sequence[Sequence[int]], prompt: int = 0) -> list[Score]:
    """Of a claim for each picture, all at once."""

    async def ask(engine: VllmEngine) -> list[Score]:
        made: dict[int, Score] = {}

        async def one(number: int) -> None:
            sha256 = hashlib.sha256(FILES[number]).digest()
            made[number] = await engine.score(FILES[number], sha256, prompt, claims[number])

        async with trio.open_nursery() as nursery:
            for number in range(len(claims)):
                nursery.start_soon(one, number)
        return [made[number] for number in range(len(claims))]

    return hosted.run(ask)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [0, 2])
def test_honest_answers_have_no_margin(hosted: HostedEngine, answers: Outputs, prompt: int) -> None:
    claims = [outputs[prompt].ids for outputs in answers]
    assert all(len(claim) == outputs[prompt].tokens for claim, outputs in zip(claims, answers, strict=True))
    made = scores(hosted, claims, prompt)
    assert max(margin for one in made for margin in one.margins) <= 1e-3
    assert [len(one.logprobs) for one in made] == [len(claim) for claim in claims]


@pytest.mark.slow
def test_a_score_is_the_same_alone_and_in_a_batch(hosted: HostedEngine, answers: Outputs) -> None:
    claims = [outputs[0].ids for outputs in answers]
    (alone,) = scores(hosted, claims[:1])
    assert alone.logprobs == pytest.approx(scores(hosted, claims)[0].logprobs, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["another image's", "one word changed", "cut"])
def test_a_false_answer_has_a_margin_somewhere(hosted: HostedEngine, answers: Outputs, kind: str) -> None:
    honest = [outputs[0].ids for outputs in answers]
    end = honest[0][-1]
    claims: Sequence[tuple[int, ...]] = {
        "another image's": honest[1:] + honest[:1],
        "one word changed": [(*ids[:3], ids[4], *ids[4:]) for ids in honest],
        "cut": [(*ids[:6], end) for ids in honest],
    }[kind]
    assert all(claim != ids for claim, ids in zip(claims, honest, strict=True))
    assert min(max(one.margins) for one in scores(hosted, claims)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("ids", [(), (5,) * 49, (512,), (2**40,), (IMAGE,), (5, IMAGE), (5, USER, 5), (5, END, 5)])
def test_a_claim_that_is_no_answer_is_refused(hosted: HostedEngine, ids: Sequence[int]) -> None:
    sha256 = hashlib.sha256(FILES[0]).digest()
    with pytest.raises(ImageError, match="unscorable"):
        hosted.run(VllmEngine.score, FILES[0], sha256, 0, ids)


@pytest.mark.slow
def test_scores_and_captions_do_not_disturb_each_other(hosted: HostedEngine, answers: Outputs) -> None:
    async def ask(engine: VllmEngine) -> None:
        async def score_one(number: int) -> None:
            sha256 = hashlib.sha256(FILES[number]).digest()
            made = await engine.score(FILES[number], sha256, 0, answers[number][0].ids)
            assert max(made.margins) <= 1e-3

        async with trio.open_nursery() as nursery:
            for number in range(len(FILES)):
                nursery.start_soon(score_one, number)
            assert await all_answers(engine) == answers

    hosted.run(ask)


@pytest.mark.slow
def test_nothing_is_compiled_on_a_cpu(hosted: HostedEngine, answers: Outputs) -> None:
    """vLLM would compile for the first score, which takes a C++ compiler and stops all captions meanwhile."""
    scores(hosted, [answers[0][0].ids])
    if not hosted.engine.state.device.startswith("cpu "):
        pytest.skip("On a GPU it may.")
    folder = Path(psutil.Process(hosted.engine.state.pid).environ()["TMPDIR"])
    assert folder.is_dir()
    assert [path for path in folder.glob("torchinductor*/**/*") if path.is_file()] == []


@pytest.mark.slow
def test_what_the_engine_keeps_of_an_answer_is_read_all_the_same(hosted: HostedEngine, answers: Outputs) -> None:
    """It keeps blocks of 32 tokens, and the second one holds the beginning of an answer."""
    claims = [outputs[0].ids for outputs in answers]
    first = scores(hosted, claims)
    assert scores(hosted, claims) == first
    assert max(margin for one in first for margin in one.margins) <= 1e-3
