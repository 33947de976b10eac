"""Scenarios that mostly wait run side by side: together they take as long as the longest.

Each is a test of its own. The first test of a module runs the scenarios of all its tests that were asked for.

Always holds: a scenario that fails, or takes too long, ends alone, and only its own test fails; whatever else ends the
run, Ctrl+C say, cancels them all, and each cleans up behind itself.
"""

import functools
import json
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future

import pytest
import trio

Report = dict[str, object]
"""What a scenario measured: JSON."""
Scenario = Callable[[], Awaitable[Report | None]]
Test = Callable[..., None]
Outcomes = dict[Test, Future[Report | None]]

_scenarios: dict[Test, Scenario] = {}


def side_by_side(seconds: float) -> Callable[[Scenario], Test]:
    """Make a scenario a test that runs at the same time as the others of its module; what it reports is printed.

    `seconds` are a guard against hanging, not a measurement. The fixture `outcomes` is in conftest.py.
    """

    def decorate(scenario: Scenario) -> Test:
        @functools.wraps(scenario)
        def test(
            outcomes: Outcomes, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
        ) -> None:
            report = outcomes[test].result()
            if report is not None:
                with capsys.disabled():
                    print("\n" + json.dumps(report))
                record_property("report", report)

        async def limited() -> Report | None:
            with trio.fail_after(seconds):
                return await scenario()

        del test.__wrapped__  # pytest would look for the scenario's arguments
        _scenarios[test] = limited
        return test

    return decorate


def run_abreast(tests: Iterable[Test]) -> Outcomes:
    """Run the scenarios of those tests that have one; how each ended."""
    outcomes: Outcomes = {test: Future() for test in tests if test in _scenarios}

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for test, outcome in outcomes.items():
                nursery.start_soon(_settle, _scenarios[test], outcome)

    try:
        trio.run(main)
    except BaseExceptionGroup as errors:
        if errors.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from errors  # pytest ends at this, and not at a group that holds it
        raise
    return outcomes


async def _settle(scenario: Scenario, outcome: Future[Report | None]) -> None:
    try:
        outcome.set_result(await scenario())
    except (Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - raised again in the scenario's own test
        outcome.set_exception(error)
