"""What is odd about a result, beside what the others make."""

import random
from collections.abc import Callable, Sequence

import msgspec
import pytest

from p2pcap.audit.plausibility import AUTHORS, USUAL, Habits, Sign
from p2pcap.ledger.records import Answer, Result, Row
from tests.makers import make_project, make_result

MADE = make_project()
RESULT, _ = make_result(MADE.project, 0, [MADE.row(0, 0)])
HONEST = [bytes([number]) * 32 for number in range(1, USUAL + 1)]
CHEAT = b"x" * 32

Rows = Callable[[random.Random, int], Row]


def caption(rng: random.Random, item: int, words: int = 20) -> Row:
    text = " ".join(str(rng.randrange(10**6)) for _ in range(words))
    return Row(item, bytes(32), (Answer(text, words, "stop"),))


def broken(rng: random.Random, item: int) -> Row:
    return Row(item, bytes(32), (), "gone", "no")


def with_errors(rng: random.Random, item: int) -> Row:
    return broken(rng, item) if rng.random() < 0.02 else caption(rng, item, rng.randrange(10, 30))


class Swarm:
    """Honest authors who make 64 images a minute each, and whoever else is asked for."""

    def __init__(self, authors: Sequence[bytes] = HONEST) -> None:
        self.rng = random.Random(1)
        self.habits = Habits()
        self.now = 0.0
        self.authors = authors

    def minutes(self, count: int, rows: Rows = with_errors) -> set[Sign]:
        """What is found odd in so many minutes of honest work."""
        found: set[Sign] = set()
        for _ in range(count):
            self.now += 60
            for author in self.authors:
                found |= self.one(author, rows)
        return found

    def one(self, author: bytes, rows: Rows, result: Result = RESULT) -> frozenset[Sign]:
        made = [rows(self.rng, item) for item in range(64)]
        return self.habits.look(author, result, made, self.now)


def test_nothing_is_odd_about_honest_work() -> None:
    assert Swarm().minutes(200) == set()


@pytest.mark.parametrize(
    ("sign", "rows"),
    [
        ("length", lambda rng, item: caption(rng, item, 3)),
        ("length", lambda rng, item: caption(rng, item, 90)),
        ("duplicates", lambda rng, item: caption(random.Random(item % 9), item)),
        ("errors", lambda rng, item: broken(rng, item) if item % 4 == 0 else caption(rng, item)),
    ],
)
def test_a_cheat_shows(sign: Sign, rows: Rows) -> None:
    swarm = Swarm()
    swarm.minutes(20)
    assert sign in swarm.one(CHEAT, rows)


def test_a_cheat_who_was_honest_before_shows_within_a_few_results() -> None:
    swarm = Swarm([*HONEST, CHEAT])
    assert swarm.minutes(100) == set()
    found = [swarm.one(CHEAT, lambda rng, item: caption(rng, item, 4)) for _ in range(16)]
    assert "length" in found[-1]


def test_one_who_is_many_times_faster_than_others_of_his_class_shows() -> None:
    swarm = Swarm()
    swarm.minutes(20)
    for _ in range(4):
        swarm.now += 3
        found = swarm.one(CHEAT, caption)
    assert found == {"speed"}
    other = Swarm()
    other.minutes(20)
    fast = msgspec.structs.replace(RESULT, engine=b"fastfast")
    for _ in range(4):
        other.now += 3
        found = other.one(CHEAT, caption, fast)
    assert found == set()


def test_another_engine_class_shows_once() -> None:
    swarm = Swarm()
    swarm.minutes(1)
    other = msgspec.structs.replace(RESULT, engine=b"otherone")
    assert swarm.one(HONEST[0], caption, other) == {"engine"}
    assert swarm.one(HONEST[0], caption, other) == set()


def test_where_answers_are_often_equal_that_is_nothing_odd() -> None:
    swarm = Swarm()

    def few_words(rng: random.Random, item: int) -> Row:
        return caption(random.Random(rng.randrange(400)), item)

    assert swarm.minutes(40, few_words) == set()
    assert swarm.one(CHEAT, few_words) == set()


def test_a_few_say_nothing_about_what_is_usual() -> None:
    swarm = Swarm(HONEST[:-2])
    swarm.minutes(20)
    assert swarm.one(CHEAT, broken) == set()


def test_a_swarm_of_liars_does_not_set_what_is_usual_while_they_are_the_fewer() -> None:
    swarm = Swarm([bytes([number]) * 32 for number in range(40)])
    swarm.minutes(4)
    liars = [bytes([200 + number]) * 32 for number in range(30)]
    found = {liar: swarm.one(liar, lambda rng, item: caption(rng, item, 3)) for liar in liars for _ in range(3)}
    assert all("length" in signs for signs in found.values())


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    habits = Habits()
    for number in range(AUTHORS + 50):
        rows = [caption(random.Random(number), item) for item in range(2)]
        habits.look(number.to_bytes(32, "big"), RESULT, rows, float(number))
    assert len(habits._of) == AUTHORS
