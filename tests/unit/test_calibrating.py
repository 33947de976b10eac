"""Limits from honest and false answers, and how sure the rates are."""

import math
import random
from collections.abc import Sequence

import pytest

from p2pcap.audit.bounds import FALSE_BANS, at_most, bans_at, false_bans, lower_bound, upper_bound
from p2pcap.audit.calibrating import ROOM, TIE, Sample, area, beyond, calibrate, distance
from p2pcap.audit.calibrating_alike import calibrate_alike
from p2pcap.audit.judging import NUMBERS, judge, judge_alike
from p2pcap.codec import decode, encode
from p2pcap.engine.base import Score
from p2pcap.errors import ConfigError
from p2pcap.project.audit import NO_LIMIT, Audit, Bound, Honest, Likeness, Limits
from p2pcap.project.records import Stage
from tests.makers import TASK

BAD, UNSURE, PLAIN = Bound(100, 1_000, 800), Bound(50, 500, 900), Bound(500, 4_000, 500)
AUDIT = Audit("tokens", Honest(100, 0, 0), (), 5, (Limits(2_000, UNSURE, BAD, PLAIN),))


def scored(*margins: float) -> Sample:
    return [Score(margins, tuple(-margin for margin in margins))]


def calm(*odd: float, tokens: int = 60) -> Sample:
    """An answer whose tokens are the likeliest ones, but for some."""
    return scored(*odd, *([0.0] * (tokens - len(odd))))


@pytest.mark.parametrize(
    ("sample", "verdict"),
    [
        (calm(), "ok"),
        (calm(0.4), "ok"),
        (calm(0.6), "unsure"),
        (calm(1.1), "bad"),
        (calm(*[0.3] * 8), "unsure"),
        (calm(*[0.05] * 13), "bad"),
        (calm(*[0.9] * 7), "bad"),
        (calm(0.6, tokens=1), "unsure"),
        (scored(math.nan), "unsure"),
        (scored(math.inf), "unsure"),
        (scored(), "unsure"),
    ],
)
def test_the_worst_of_mean_greatest_margin_and_share_decides(sample: Sample, verdict: str) -> None:
    assert judge(AUDIT, sample).verdict == verdict


def test_tokens_that_a_verifier_cut_are_judged_by_their_own_limits() -> None:
    assert judge(AUDIT, calm(3.0)).verdict == "bad"
    assert judge(AUDIT, calm(3.0), told=False).verdict == "unsure"
    assert judge(AUDIT, calm(5.0), told=False).verdict == "bad"


def test_an_item_is_what_its_worst_answer_is() -> None:
    two = Audit("tokens", Honest(1, 0, 0), (), 1, (AUDIT.limits or ()) * 2)
    assert judge(two, [*calm(), *calm(0.6)]).verdict == "unsure"
    assert judge(two, [*calm(1.1), *calm(0.6)]).verdict == "bad"
    assert judge(two, calm()).verdict == "unsure", "an answer is missing"


def test_the_numbers_of_an_item_say_why() -> None:
    numbers = judge(AUDIT, calm(0.6, 3.0)).numbers
    assert NUMBERS.unpack(numbers) == (round(2_600 / 60), 3_000, round(58_000 / 60), 60)
    assert len(judge(Audit("tokens", Honest(1, 0, 0), (), 1, (AUDIT.limits or ()) * 16), [*calm()] * 16).numbers) <= 256


def test_texts_that_differ_too_much_are_bad() -> None:
    audit = Audit("agreement", Honest(1, 0, 0), (), 1, likeness=(Likeness(600, 300), Likeness(500, 200)))
    assert judge_alike(audit, [0.7, 0.6]).verdict == "ok"
    assert judge_alike(audit, [0.7, 0.4]).verdict == "unsure"
    assert judge_alike(audit, [0.299, 0.4]).verdict == "bad"
    assert judge_alike(AUDIT, [0.0]).verdict == "unsure", "this stage was calibrated by tokens"


def test_an_audit_is_part_of_a_stage_and_not_of_its_task() -> None:
    stage = Stage("main", TASK, audit=AUDIT)
    assert decode(encode(stage), Stage, 1 << 20) == stage
    assert stage.task.tid == TASK.tid


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 5_000) == pytest.approx(1 - 0.05 ** (1 / 5_000), rel=1e-9)
    assert at_most(3, 50, upper_bound(3, 50)) == pytest.approx(0.05, rel=1e-9)
    assert lower_bound(95, 100) == pytest.approx(0.8977, abs=1e-4)  # 1 - upper bound of 5 in 100, 0.1023
    assert (upper_bound(7, 7), lower_bound(0, 7), upper_bound(0, 0)) == (1.0, 0.0, 1.0)


def test_a_ban_takes_the_least_number_that_an_honest_author_will_not_reach() -> None:
    for bad, items, number in ((0, 5_000, 7), (0, 500, 20), (3, 2_500, 14)):
        rate = upper_bound(bad, items)
        assert bans_at(bad, items) == number
        assert false_bans(number, rate) <= FALSE_BANS < false_bans(number - 1, rate)
    with pytest.raises(ConfigError, match="no ground"):
        bans_at(0, 0)


def honest(count: int, off: float = 0.02, seed: int = 0) -> list[Sample]:
    """Answers of 20 to 80 tokens, some of which are nearly as likely as the likeliest."""
    rng = random.Random(seed)
    return [
        scored(*(max(0.0, rng.gauss(-0.1, 0.1)) if rng.random() < off else 0.0 for _ in range(rng.randrange(20, 80))))
        for _ in range(count)
    ]


def spoiled(samples: Sequence[Sample], words: int, margin: float, seed: int = 1) -> list[Sample]:
    """Some of each answer's tokens are others."""
    rng = random.Random(seed)

    def one(sample: Sample) -> Sample:
        margins = list(sample[0].margins)
        for place in rng.sample(range(len(margins)), words):
            margins[place] = rng.expovariate(1 / margin)
        return scored(*margins)

    return [one(sample) for sample in samples]


def test_limits_let_honest_answers_pass_and_stop_others() -> None:
    good = honest(2_000)
    found = calibrate(good, [], {"edited": spoiled(good, 1, 20.0), "other-image": spoiled(good, 15, 4.0)}, {b"c" * 8})
    assert found.audit.honest == Honest(1_000, 0, 0)
    assert {cheat.name: cheat.caught > 0.9 * cheat.items for cheat in found.audit.cheats} == {
        "edited": True,
        "other-image": True,
    }
    assert found.audit.bans_at == bans_at(0, 1_000)
    assert found.audit.classes == (b"c" * 8,)
    assert [judge(found.audit, sample).verdict for sample in honest(3_000, seed=7)].count("bad") == 0
    assert decode(encode(found.audit), Audit, 1 << 16) == found.audit


def test_an_uncertain_model_has_wider_limits_and_the_report_says_what_they_miss() -> None:
    rng = random.Random(3)
    good = [scored(*(rng.expovariate(2.0) for _ in range(60))) for _ in range(2_000)]
    found = calibrate(good, [], {"edited": spoiled(good, 1, 3.0), "random": spoiled(good, 50, 12.0)})
    (limits,) = found.audit.limits or ()
    assert limits.bad.worst > ROOM * 4_000
    assert found.audit.honest.bad == 0
    edited, noise = found.cheats
    assert edited.bad < 0.2 * edited.items
    assert edited.power[1] < edited.power[0]
    assert noise.bad == noise.items


def test_the_limits_of_honest_answers_go_further_than_any_of_them() -> None:
    found = calibrate([calm(0.2)] * 400, [], {"edited": [calm(9.0)] * 400})
    (limits,) = found.audit.limits or ()
    assert limits.bad.worst == pytest.approx(1_000 * (ROOM * 0.2 + TIE), abs=1)
    assert limits.unsure.worst < limits.bad.worst
    assert limits.unsure.mean < limits.bad.mean
    assert limits.plain == Bound(NO_LIMIT, NO_LIMIT, 0), "nobody measured answers whose tokens are not told"


def test_items_beyond_the_limits_are_those_that_are_called_bad() -> None:
    good = honest(400)
    found = calibrate(good, good, {"edited": spoiled(good, 1, 3.0)})
    for sample in [*good, *spoiled(good, 2, 1.0)]:
        assert (distance(found.audit, sample) > 1) == (judge(found.audit, sample).verdict == "bad")


def test_rates_are_measured_with_items_that_set_no_limit() -> None:
    """Every other honest item is far off, and those are not the ones that set the limits."""
    with pytest.raises(ConfigError, match="500 of 500 honest items look wrong"):
        calibrate([calm(), calm(8.0)] * 500, [], {})


def test_few_items_set_no_limit() -> None:
    with pytest.raises(ConfigError, match="too few"):
        calibrate(honest(199), [], {})


def test_the_curve_and_the_area_under_it() -> None:
    assert area([1.0, 2.0], [3.0, 4.0]) == 1.0
    assert area([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert area([1.0, 3.0], [2.0]) == 0.5
    assert area([], [1.0]) == 0.5
    assert [beyond([1.0, 2.0, 3.0], at) for at in (0.0, 1.0, 2.5, 3.0)] == pytest.approx([1, 2 / 3, 1 / 3, 0])


def test_texts_are_calibrated_by_how_alike_they_are() -> None:
    rng = random.Random(5)
    good = [[rng.uniform(0.7, 1.0)] for _ in range(1_000)]
    false = {"other-image": [[rng.uniform(0.0, 0.4)] for _ in range(200)], "model-1": [[0.72]] * 200}
    found = calibrate_alike(good, false)
    (limits,) = found.audit.likeness or ()
    assert 640 <= limits.unsure <= 660
    assert 440 <= limits.bad <= 470
    assert found.audit.honest.bad == 0
    assert {kind.name: kind.power[0] for kind in found.cheats} == {"other-image": 1.0, "model-1": 0.0}
    assert found.audit.prompts == 1
    assert decode(encode(found.audit), Audit, 1 << 16) == found.audit
    assert calibrate_alike([[1.0]] * 400, {}).audit.likeness == (Likeness(950, 900),)
    with pytest.raises(ConfigError, match="too few"):
        calibrate_alike(good[:199], {})


def test_texts_that_chance_makes_are_no_ground_for_a_verdict() -> None:
    """Honest captions that have nothing in common leave nothing to be called bad."""
    found = calibrate_alike([[0.1], [1.0]] * 200, {"copied": [[0.0]] * 50})
    assert (found.audit.likeness or ())[0].bad == 0
    assert found.cheats[0].bad == 0
