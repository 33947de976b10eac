"""The table of attacks names tests that are there."""

import importlib
import inspect

import pytest

from tests.swarm.hostile import ATTACKS


@pytest.mark.parametrize("module", ATTACKS)
def test_each_attack_has_its_test(module: str) -> None:
    found = importlib.import_module(f"tests.swarm.{module}")
    for attack, name in ATTACKS[module].items():
        assert inspect.isfunction(getattr(found, name, None)), attack
