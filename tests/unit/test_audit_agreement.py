"""How alike two answers are."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.shapes.pictures import DESCRIBE, draw
from p2pcap.audit.agreement import MAX_CHARACTERS, likeness


@given(st.text(), st.text())
def test_likeness_is_a_share_and_the_same_both_ways(one: str, other: str) -> None:
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, other) == likeness(other, one)
    assert likeness(one, one) == 1


@pytest.mark.parametrize(
    ("one", "other", "least", "most"),
    [
        ("A red circle on a blue field.", "a red circle, on a blue field", 1.0, 1.0),
        ("A red circle on a blue field.", "On a blue field a red circle", 0.8, 0.95),
        ("A red circle on a blue field.", "Three dogs play near some trees", 0.0, 0.05),
        ("a red circle", "a green circle", 0.3, 0.7),
        ("", "", 1.0, 1.0),
        ("", "a", 0.0, 0.0),
        ("!", "?", 0.0, 0.0),
        ("红色的圆圈在蓝色背景上", "蓝色背景上有一个红色的圆圈", 0.6, 0.95),
        ("ﬁne cafe\u0301", "FINE café", 1.0, 1.0),
    ],
)
def test_what_is_alike(one: str, other: str, least: float, most: float) -> None:
    assert least <= likeness(one, other) <= most


def test_words_in_another_order_are_less_alike() -> None:
    words = ["a", "red", "circle", "above", "two", "green", "squares", "and", "one", "small", "yellow", "star"]
    shuffled = random.Random(3).sample(words, len(words))
    assert likeness(" ".join(words), " ".join(shuffled)) < 0.7


def test_captions_of_other_images_are_less_alike_than_of_the_same() -> None:
    """With the words of a very small language, and one word of twenty another."""
    said = [draw("held-out", number, 0).answers[DESCRIBE] for number in range(24)]
    others = [likeness(one, other) for one, other in itertools.combinations(said, 2) if one != other]
    edited = [likeness(text, text.replace(" a ", " one ", 1)) for text in said]
    assert sorted(others)[len(others) // 2] < sorted(edited)[0]


def test_long_texts_are_compared_as_far_as_they_are_read() -> None:
    long = "word " * MAX_CHARACTERS
    assert likeness(long, long + "more") == 1.0
