import pytest

from tests.interop import js


@pytest.fixture(scope="session")
def installed() -> None:
    """js-libp2p is there, or the test is skipped."""
    js.install()
