import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.engine import frames
from p2pcap.engine.base import EngineLoad, EngineSettings, Output, Score
from p2pcap.errors import FrameError
from p2pcap.project.items import MAX_IMAGE
from p2pcap.project.task import Model, Prompt, Task

TASK = Task(model=Model("m"), prompts=(Prompt("describe", "What is it?"),))
TO_ENGINE = [
    frames.Start("/a/model", TASK, EngineSettings(threads=2), task_number=3, again=True),
    frames.Ask(0, b"h" * 32, b""),
    frames.Ask(1, b"h" * 32, bytes(range(256)) * 40),
    frames.Score(2, b"h" * 32, b"file", 1, (5, 6, 2), {"describe": "a cat"}, task_number=3),
    frames.Use(3, TASK, task_number=4),
    frames.Cancel(1),
]
TO_NODE = [
    frames.Progress("loading"),
    frames.Ready("0.32.0", "cpu", b"12345678"),
    frames.Refused("no", True),
    frames.Answer(7, (Output("a cat", 3, "stop", (5, 6, 2)), Output("", 48, "length"))),
    frames.Fault(8, "empty", "The file has no bytes."),
    frames.Scored(9, Score((0.0, 1.5), (-0.1, -2.0))),
    frames.Used(10, "It has another model."),
    frames.Load(
        EngineLoad(running=64, waiting=3, kv=0.5, decoding=2, read=10_000, made=2_000, notice="A server is away.")
    ),
    frames.Gone("vLLM's own processes ended."),
]


def length(size: int) -> bytes:
    return size.to_bytes(4, "big")


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30))
def test_messages_survive_any_division_of_the_stream(sizes: list[int]) -> None:
    stream = b"".join(frames.encode(message) for message in TO_ENGINE)
    reader = frames.frames_to_engine()
    heard: list[frames.ToEngine] = []
    for size in sizes:
        heard += reader.feed(stream[:size])
        stream = stream[size:]
    heard += reader.feed(stream)
    assert heard == TO_ENGINE


def test_answers_arrive_as_sent() -> None:
    assert frames.frames_to_node().feed(b"".join(map(frames.encode, TO_NODE))) == TO_NODE


def test_the_longest_image_allowed_fits() -> None:
    image = bytes(MAX_IMAGE)
    (ask,) = frames.frames_to_engine().feed(frames.encode(frames.Ask(1, b"h" * 32, image)))
    assert isinstance(ask, frames.Ask)
    assert len(ask.image) == MAX_IMAGE


def test_the_longest_answers_allowed_fit() -> None:
    output = Output("x" * 128 * 8_192, 8_192, "length", (1_000_000,) * 8_192)
    (answer,) = frames.frames_to_node().feed(frames.encode(frames.Answer(1, (output,) * 16)))
    assert isinstance(answer, frames.Answer)


def test_an_answer_too_long_to_be_scored_is_refused() -> None:
    score = frames.Score(2, b"h" * 32, b"", 0, (1,) * (frames.MAX_IDS + 1))
    with pytest.raises(FrameError, match="cannot be understood"):
        frames.frames_to_engine().feed(frames.encode(score))


@pytest.mark.parametrize("size", [frames.MAX_TO_NODE + 1, 2**31, 2**32 - 1])
def test_a_frame_too_long_is_refused_before_its_bytes_come(size: int) -> None:
    with pytest.raises(FrameError, match=str(frames.MAX_TO_NODE)):
        frames.frames_to_node().feed(length(size))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        msgspec.msgpack.encode(["Answer", 1]),
        msgspec.msgpack.encode(["Answer", "one", []]),
        msgspec.msgpack.encode(["Answer", 1, [{"text": "a", "tokens": 1, "finish": "tired"}]]),
        msgspec.msgpack.encode(["Unknown", 1]),
        frames.encode(frames.Cancel(1))[4:],
        b"\x91" * 100_000,
    ],
    ids=["empty", "reserved", "text", "short", "type", "finish", "tag", "direction", "deep"],
)
def test_a_frame_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError, match="cannot be understood"):
        frames.frames_to_node().feed(length(len(body)) + body)
