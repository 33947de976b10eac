from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as started:
        yield started
