"""What a node may ask of an engine, whatever runs behind it.

An engine turns an image file into one answer for each prompt of its task. It lives and dies apart from the node: a call
that was open when it died raises EngineDied, and the same call may be made again once `wait_ready` returns.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

Phase = Literal["starting", "loading", "ready", "restarting", "failed", "stopped"]
"""starting: the process comes up; loading: it reads the model; ready: it captions; restarting: it died and is waited
for; failed: it will not come back; stopped: it was told to end, or not yet told to start."""

Finish = Literal["stop", "length"]
"""stop: the model ended its answer (or met a stop text); length: it was cut at the task's `max_tokens`."""

NO_FIELDS: Mapping[str, str] = MappingProxyType({})
"""Of an image that nothing is said about."""

IN_HAND_BEYOND_BATCH = 16
"""Images in flight above the engine's batch, so that a finished one is replaced without waiting for the node."""


class Output(msgspec.Struct, frozen=True):
    """One answer: its text without surrounding blanks, how many tokens the model made, and why it ended."""

    text: str
    tokens: int
    finish: Finish


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a volunteer may choose about the engine. Nothing here changes what a caption says."""

    max_num_seqs: int = 64
    """Answers generated at the same time."""
    kv_cache_gib: int = 1
    """Memory for attention keys and values on a CPU, in GiB."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory that vLLM may take, between 0 and 1."""
    threads: int = 0
    """CPU threads for the model; 0 takes all cores but one."""


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


class Engine(Protocol):
    """An engine for one task."""

    @property
    def state(self) -> EngineState:
        """How it is doing now."""
        ...

    @property
    def capacity(self) -> int:
        """How many images to keep in flight so that it never runs dry."""
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
