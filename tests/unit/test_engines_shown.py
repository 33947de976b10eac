"""What people see of a node's engines: in `status`, in the line of `join`, and in metrics."""

import pytest
from msgspec.structs import replace

from p2pcap.cli.live import describe
from p2pcap.cli.status import described
from p2pcap.node.metrics import UNIT_GAUGES, exposition
from p2pcap.node.snapshot import EngineInfo, EngineUnit, NodeSnapshot, decode, encode
from tests.unit.control_node import SNAPSHOT
from tests.unit.store_project import NOW
from tests.unit.test_metrics import read

FIRST = EngineUnit(
    name="GPU 0",
    phase="ready",
    device="cuda NVIDIA H200",
    rate=12.5,
    tokens=640.0,
    in_flight=80,
    running=64,
    waiting=16,
    kv=0.42,
    power=310.4,
    power_limit=700.0,
    temperature=64,
    busy=0.97,
)
SECOND = replace(
    FIRST, name="GPU 1", phase="resting", temperature=88, power=90.0, power_limit=None, notice="less memory"
)
TWO = EngineInfo(
    phase="captioning",
    detail="1 of 2 engines ready",
    device="2 x cuda NVIDIA H200",
    rate=12.5,
    average=11.0,
    in_flight=80,
    tokens=640.0,
    running=64,
    waiting=16,
    kv=0.42,
    notices=("GPU 2 is left idle",),
    units=(FIRST, SECOND),
)


def with_engine(engine: EngineInfo) -> NodeSnapshot:
    return replace(SNAPSHOT, engine=engine)


def shown(engine: EngineInfo) -> str:
    return "\n".join(described(with_engine(engine), NOW))


def test_a_snapshot_with_engines_travels() -> None:
    assert decode(encode(with_engine(TWO))) == with_engine(TWO)


def test_status_lists_several_engines_with_their_gpus() -> None:
    text = shown(TWO)
    assert "engine      captioning (1 of 2 engines ready), 2 x cuda NVIDIA H200" in text
    assert "640 tokens/s; 64 requests in the batch, 16 waiting, 42 % of the memory for keys and values in use" in text
    assert "GPU 2 is left idle" in text
    (first,) = [line for line in text.splitlines() if line.startswith("  GPU 0")]
    assert " ".join(first.split()) == "GPU 0 ready 12.50 640 64 16 42 % 310 of 700 W 64 °C 97 %"
    (second, notice) = [line for line in text.splitlines() if line.startswith("  GPU 1")]
    assert "resting" in second
    assert "90 W" in second
    assert notice == "  GPU 1: less memory"


def test_a_single_engine_on_a_cpu_is_no_table() -> None:
    plain = EngineUnit(name="CPU", phase="ready", notice="a smaller batch: memory was short")
    text = shown(replace(TWO, detail="", notices=(), units=(plain,)))
    assert "power" not in text
    assert "            a smaller batch: memory was short" in text


def test_the_line_of_join_says_how_many_work_and_how_warm_they_are() -> None:
    assert describe(with_engine(TWO)).endswith(
        "1 of 2 engines captioning, 12.5 images/s, 640 tokens/s here, 88 °C, 400 W, 1 errors"
    )
    loading = tuple(replace(unit, phase="loading") for unit in TWO.units)
    assert "2 of 2 engines loading" in describe(with_engine(replace(TWO, phase="loading", units=loading)))
    single = replace(TWO, units=(EngineUnit(name="CPU", phase="ready"),))
    assert "engine captioning, 12.5 images/s, 640 tokens/s here, 1 errors" in describe(with_engine(single))
    assert "engine" not in describe(with_engine(EngineInfo()))


def test_while_the_model_is_fetched_that_is_said() -> None:
    assert "engine      starting (fetching the model: 1.00 of 2.00 GB)" in shown(
        EngineInfo("starting", "fetching the model: 1.00 of 2.00 GB")
    )


def test_each_engine_has_its_series() -> None:
    found = read(with_engine(TWO))
    assert {name.partition(" ")[0] for name in found} >= UNIT_GAUGES.keys()
    assert found["p2pcap_engine_tokens_per_second"] == 640
    assert found["p2pcap_engine_unit_power_watts engine=0"] == 310.4
    assert found["p2pcap_engine_unit_temperature_celsius engine=1"] == 88
    assert (found["p2pcap_engine_unit_resting engine=0"], found["p2pcap_engine_unit_resting engine=1"]) == (0, 1)
    assert "p2pcap_engine_unit_power_limit_watts engine=1" not in found, "what is not known is left out"
    assert "NVIDIA" not in exposition(with_engine(TWO))


@pytest.mark.parametrize("name", UNIT_GAUGES)
def test_names_of_an_engine_s_series_say_so(name: str) -> None:
    assert name.startswith("p2pcap_engine_unit_")
