"""The messages between the node and its engine process, and how they lie on the socket between them.

A frame is a 4-byte big-endian length and that many bytes of msgpack: one message with its tag. Both sides read and
write many frames with one system call, because at hundreds of images a second the calls would cost more than the
messages. No input or output is done here.

Always holds: no frame longer than the limit of its direction is taken in, and its length is checked before its bytes
are waited for. A message that does not fit its schema ends the connection (FrameError).
"""

from typing import Annotated, Any, Generic, TypeVar

import msgspec

from p2pcap.engine.base import EngineLoad, EngineSettings, Finish, Output
from p2pcap.engine.base import Score as Scores
from p2pcap.engine.base import Spelt as Spelling
from p2pcap.errors import FrameError
from p2pcap.project.items import MAX_IMAGE
from p2pcap.project.task import Task

MAX_TO_ENGINE = MAX_IMAGE + 4 * 1024 * 1024
"""An image file with its hash and its texts (32 fields and 16 answers of 8,192 characters, at up to 4 bytes a
character, are 1.5 MiB), or a task with all its prompts."""

MAX_IDS = 8_192
"""Tokens of an answer that is to be scored: as many as a task may ask for (p2pcap.project.sampling)."""

MAX_TEXT = 65_536
"""Characters of an answer (p2pcap.ledger.records)."""

MAX_TO_NODE = 20 * 1024 * 1024
"""16 prompts of 8,192 tokens, at up to 128 bytes a token for its text and 5 for its id."""

READ_BYTES = 256 * 1024
"""How much to ask a socket for at once."""

TASKS_KEPT = 16
"""How many tasks an engine answers for at the same time: the one in use, and those that calls were made for before."""

LOAD_SECONDS = 0.25
"""How often a busy engine tells what it is busy with."""

DIED = 3
"""Exit status of the process: what runs the model went away, as the message before said."""

REFUSED = 4
"""Exit status of the process: the model cannot be served, as the message before said."""

_LENGTH_BYTES = 4


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all messages."""


class Start(Message, frozen=True):
    """To the engine, first of all: load this model for this task, which is the node's `task_number`-th. `again`: an
    earlier process was ready, so it is known to work."""

    model_dir: str
    task: Task
    settings: EngineSettings
    task_number: int = 0
    again: bool = False


class Ask(Message, frozen=True):
    """To the engine: caption this image file for the task of that number. `number` is the node's own and never used
    twice. `fields` are those of the image's metadata that the task's prompts ask for."""

    number: int
    sha256: bytes
    image: bytes
    fields: dict[str, str] = {}
    task_number: int = 0


class Score(Message, frozen=True):
    """To the engine: what does the model think of `ids` as the answer to the prompt of that number? `number` and
    `task_number` as in Ask, `values` are fields and the answers to prompts before that one."""

    number: int
    sha256: bytes
    image: bytes
    prompt: int
    ids: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_IDS)]
    values: dict[str, str] = {}
    task_number: int = 0


class Spell(Message, frozen=True):
    """To the engine: what are `ids` as an answer to the prompt of that number? The numbers are as in Score."""

    number: int
    prompt: int
    ids: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_IDS)]
    finish: Finish
    task_number: int = 0


class Cut(Message, frozen=True):
    """To the engine: which tokens may the answer with this text have been made of?"""

    number: int
    prompt: int
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    finish: Finish
    task_number: int = 0


class Use(Message, frozen=True):
    """To the engine: this task may be asked for from now on, beside the TASKS_KEPT - 1 before it."""

    number: int
    task: Task
    task_number: int


class Cancel(Message, frozen=True):
    """To the engine: nobody waits for this answer any more."""

    number: int


class Progress(Message, frozen=True):
    """To the node, while starting: one line about what is being done."""

    detail: str


class Ready(Message, frozen=True):
    """To the node: images are taken from now on."""

    version: str
    device: str
    engine_class: bytes


class Refused(Message, frozen=True):
    """To the node: the model cannot be served. `model_at_fault` is False when this machine may be the reason."""

    reason: str
    model_at_fault: bool


class Gone(Message, frozen=True):
    """To the node: what runs the model went away, and so does this process."""

    reason: str


class Answer(Message, frozen=True):
    """To the node: one output for each prompt."""

    number: int
    outputs: tuple[Output, ...]


class Fault(Message, frozen=True):
    """To the node: this image cannot be captioned, see errors.ImageError."""

    number: int
    code: str
    reason: str


class Scored(Message, frozen=True):
    """To the node: what the model thinks of the answer."""

    number: int
    score: Scores


class Spelt(Message, frozen=True):
    """To the node: what the tokens are as an answer."""

    number: int
    spelling: Spelling


class Readings(Message, frozen=True):
    """To the node: the ways to cut the text into tokens."""

    number: int
    readings: tuple[tuple[int, ...], ...]


class Used(Message, frozen=True):
    """To the node: the task may be asked for; with a `refusal`, in a sentence, it may not."""

    number: int
    refusal: str = ""


class Load(Message, frozen=True):
    """To the node: what the engine is busy with, every LOAD_SECONDS while it is, and once when it no longer is or its
    notice is another."""

    load: EngineLoad


Request = Ask | Score | Spell | Cut
"""What is answered for a task; each gets one reply."""

ToEngine = Start | Ask | Score | Spell | Cut | Use | Cancel
ToNode = Progress | Ready | Refused | Gone | Answer | Fault | Scored | Spelt | Readings | Used | Load
Reply = Answer | Fault | Scored | Spelt | Readings | Used

_encoder = msgspec.msgpack.Encoder()
_T = TypeVar("_T")


def encode(message: Message) -> bytes:
    """The message as one frame."""
    frame = bytearray(_LENGTH_BYTES)
    _encoder.encode_into(message, frame, _LENGTH_BYTES)
    frame[:_LENGTH_BYTES] = (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "big")
    return bytes(frame)


class FrameReader(Generic[_T]):
    """Takes bytes as they come and gives the messages they complete; made by the two functions below."""

    def __init__(self, kind: Any, limit: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[_T] = msgspec.msgpack.Decoder(kind)
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[_T]:
        """The messages that are whole now. Raises FrameError for a frame that is too long or not of its kind."""
        self._buffer += data
        messages, start = [], 0
        while (end := self._frame_end(start)) is not None:
            messages.append(self._message(start + _LENGTH_BYTES, end))
            start = end
        del self._buffer[:start]
        return messages

    def _frame_end(self, start: int) -> int | None:
        """Where the frame at `start` ends, or None while it is not whole."""
        body = start + _LENGTH_BYTES
        if len(self._buffer) < body:
            return None
        length = int.from_bytes(self._buffer[start:body], "big")
        if length > self._limit:
            raise FrameError(f"A frame of {length} bytes is announced; at most {self._limit} are allowed.")
        return body + length if len(self._buffer) >= body + length else None

    def _message(self, start: int, end: int) -> _T:
        with memoryview(self._buffer) as buffer, buffer[start:end] as body:
            try:
                return self._decoder.decode(body)
            except msgspec.DecodeError as error:
                raise FrameError(f"A frame cannot be understood: {error}.") from error


def frames_to_engine() -> FrameReader[ToEngine]:
    """Reads what the node sends."""
    return FrameReader(ToEngine, MAX_TO_ENGINE)


def frames_to_node() -> FrameReader[ToNode]:
    """Reads what the engine sends."""
    return FrameReader(ToNode, MAX_TO_NODE)
