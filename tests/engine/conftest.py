"""One real vLLM engine for all tests that do not kill it: a start costs half a minute."""

from collections.abc import Iterator

import pytest

from p2pcap.engine.vllm_engine import VllmEngine
from tests.engine.hosted import HostedEngine


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedEngine]:
    engine = HostedEngine(tmp_path_factory.mktemp("engine") / "engine.log")
    try:
        engine.run(VllmEngine.wait_ready)
        yield engine
    finally:
        engine.close()
