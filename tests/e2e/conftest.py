from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Processes
from tests.e2e.slow_server import SlowServer


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as started:
        yield started


@pytest.fixture
def server() -> Iterator[SlowServer]:
    """It repeats the question."""
    serving = SlowServer(lambda asked: asked.text)
    yield serving
    serving.close()
