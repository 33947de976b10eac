"""What a node may ask of an engine, whatever runs behind it.

An engine turns an image file into one answer for each prompt of its task. It lives and dies apart from the node: a call
that was open when it died raises EngineDied, and the same call may be made again once `wait_ready` returns.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

from p2pcap.project.task import Task

Phase = Literal["starting", "loading", "ready", "restarting", "failed", "stopped"]
"""starting: the process comes up; loading: it reads the model; ready: it captions; restarting: it died and is waited
for; failed: it will not come back; stopped: it was told to end, or not yet told to start."""

Finish = Literal["stop", "length"]
"""stop: the model ended its answer (or met a stop text); length: it was cut at the task's `max_tokens`."""

NO_FIELDS: Mapping[str, str] = MappingProxyType({})
"""Of an image that nothing is said about."""


class Output(msgspec.Struct, frozen=True):
    """One answer: its text as the task's output policy leaves it, how many tokens the model made, and why it ended.

    `ids` are the tokens as the model made them, an end-of-text token included; none where the engine does not tell.
    """

    text: str
    tokens: int
    finish: Finish
    ids: tuple[int, ...] = ()


class Score(msgspec.Struct, frozen=True):
    """What the model thinks of an answer that somebody claims, token by token, given the image and the prompt.

    `margins`: by how much the likeliest token's log-probability is above the claimed one's, 0 where it is the likeliest
    itself; `logprobs`: the claimed token's own. Natural logarithms, of the distribution before sampling settings.
    """

    margins: tuple[float, ...]
    logprobs: tuple[float, ...]


class Spelt(msgspec.Struct, frozen=True):
    """What tokens that somebody claims are as an answer: its text as the task's output policy leaves it, "" when they
    make none.

    `ended`: they end as an answer does that the model ended itself, where that is claimed. `short`: it is claimed to
    have been cut at `max_tokens`, and there are fewer. `certain`: this engine can tell how an answer ends.
    """

    text: str
    ended: bool = True
    short: bool = False
    certain: bool = True


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a volunteer may choose about the engine. Nothing here changes what a caption says."""

    max_num_seqs: int = 64
    """Answers generated at the same time, at most."""
    max_num_batched_tokens: int = 0
    """Tokens read or made in one step of the model; 0 leaves it to vLLM."""
    gpus: tuple[int, ...] = ()
    """The GPUs of this engine, by their number on this machine; several share one model (tensor parallel). None: a CPU,
    or whatever vLLM finds."""
    eager: bool = False
    """No compiled graphs on a GPU: slower, and needs less memory."""
    trust_remote_code: bool = False
    """The volunteer allows the Python code that comes with this model."""
    endpoints: tuple[str, ...] = ()
    """Addresses of servers with OpenAI's interface, asked in place of an own vLLM; none: an own vLLM."""
    served_model: str = ""
    """The model's name on those servers; empty: the task's."""
    kv_cache_gib: float = 1.0
    """Memory for attention keys and values on a CPU, in GiB. All of it is touched as the engine starts."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory that vLLM may take, between 0 and 1."""
    threads: int = 0
    """CPU threads for the model; 0 takes all cores but one."""
    nice: int = 0
    """By how much the engine's processes stand back for others that want the CPU, 0 to 19 (nice(2))."""


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is busy with, as it last told; all 0 before that.

    `running` and `waiting` are requests (an image has one for each prompt) in its batch and before it, `kv` the share
    (0 to 1) of the memory for keys and values in use, `decoding` images being decoded, and `read` and `made` the tokens
    of prompts and answers since it is ready. `notice` is one line for people on a server that does not work now; ""
    when all do.
    """

    running: int = 0
    waiting: int = 0
    kv: float = 0.0
    decoding: int = 0
    read: int = 0
    made: int = 0
    notice: str = ""


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is doing, at one moment."""

    phase: Phase = "stopped"
    detail: str = ""
    """One line for people: what it is doing, or why it failed."""
    restarts: int = 0
    pid: int = 0
    """Process id of the engine's front process; 0 while there is none."""
    running: int = 0
    """Images handed to the process and not answered yet."""
    waiting: int = 0
    """Calls of `caption` that wait for a place among the running."""
    version: str = ""
    """vLLM's version; like `device` and `engine_class` it is known once the engine has been ready."""
    device: str = ""
    engine_class: bytes = b""
    """8 bytes: engines of the same class give the same caption for the same image, see `device.engine_class`."""
    load: EngineLoad = EngineLoad()
    notice: str = ""
    """One line for people on what is not as they chose: smaller settings after a lack of memory."""


class Engine(Protocol):
    """An engine for one task."""

    @property
    def state(self) -> EngineState:
        """How it is doing now."""
        ...

    @property
    def capacity(self) -> int:
        """How many images to keep in flight so that it never runs dry, and no more. Changes as the engine tells what it
        is busy with; at least 1."""
        ...

    async def wait_ready(self) -> None:
        """Returns once images are taken. Raises EngineStartError or ModelError when that will never be."""
        ...

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        """The answers to the task's prompts, in their order, for an image file with that SHA-256 (32 bytes). `fields`
        is what the dataset says of the image; what the task's prompts do not ask for is left out.

        Raises ImageError when the image is at fault, and EngineDied when the engine is not there or goes away: then
        ask again after `wait_ready`. Cancelling the call gives the work up in the engine as well.
        """
        ...


class ReadingEngine(Engine, Protocol):
    """An engine that can be asked about answers that somebody claims."""

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        """What the model thinks of `ids` as the answer to the task's prompt of that number; `values` are the image's
        fields and the claimed answers to the prompts before it, by name. Behind the engine's own work.

        Raises as `caption` does, ImageError("unscorable") when this engine cannot score or these are no such answer.
        """
        ...

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """What `ids` are as an answer to the task's prompt of that number that ended so. Asks the model nothing.

        Raises EngineDied, ImageError("unscorable") when this engine cannot tell.
        """
        ...

    async def cut(self, prompt: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """The tokens that an answer with this text may have been made of, in one way or several; asks the model
        nothing. Raises as `spell` does."""
        ...


class NodeEngine(ReadingEngine, Protocol):
    """All that the node asks of an engine."""

    async def use(self, task: Task) -> None:
        """Caption for `task` from now on, without loading anything: calls made before keep the task they were made for.

        Raises ModelError when that task needs the model loaded anew (p2pcap.project.task, model and number format).
        """
        ...
