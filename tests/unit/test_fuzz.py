"""Strangers' bytes: whatever they are, only the documented errors come out. tests.simulation.fuzz tries millions."""

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation import fuzz
from tests.simulation.fuzz import TARGETS, Target

INPUTS = 15_000

NAMED = pytest.mark.parametrize("target", TARGETS, ids=[f"{n} {target.name}" for n, target in enumerate(TARGETS)])


def read(target: Target, data: bytes) -> None:
    """Nothing but the documented errors."""
    with suppress(*target.errors):
        target.read(data)


@NAMED
@given(data=st.binary(max_size=300))
def test_any_bytes(target: Target, data: bytes) -> None:
    read(target, data)


@NAMED
@given(at=st.integers(0, 1_000), change=st.randoms(use_true_random=False), times=st.integers(1, 4))
def test_good_ones_with_something_changed(target: Target, at: int, change: random.Random, times: int) -> None:
    data = target.seeds[at % len(target.seeds)]
    for _ in range(times):
        data = fuzz.change(change, data, target.seeds)
    read(target, data)


def test_many() -> None:
    for number in range(INPUTS):
        fuzz.one(1, number)


@pytest.mark.parametrize("target", TARGETS[3:], ids=lambda target: target.name)
def test_good_ones_are_read(target: Target) -> None:
    for data in target.seeds:
        target.read(data)
