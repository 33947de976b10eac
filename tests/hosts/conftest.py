"""The fixture of `tests.hosts.abreast`."""

import pytest

from tests.hosts.abreast import Outcomes, run_abreast


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """How the scenarios of this module ended, those of tests that nobody asked for left out."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return run_abreast(item.function for item in items if item.module is request.module)
