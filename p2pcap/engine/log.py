"""What the engine's log file says about its start and its end.

vLLM's processes write tracebacks of their own, and only there is the reason why one of them ended; how far a start has
come is said nowhere else either.
"""

import os
import re
from pathlib import Path
from typing import BinaryIO

TAIL_BYTES = 64 * 1024
LINE_CHARACTERS = 300
LOG_BYTES = 8 * 1024 * 1024

_PREFIX = re.compile(r"^(\(\w+ pid=\d+\) )?([A-Z]+ [\d-]+ [\d:]+ \[[^\]]*\] )?")
_ERROR = re.compile(r"^[\w.]*(Error|Exception|Interrupt): ?.+")
_CONSEQUENCE = ("Engine core initialization", "EngineCore encountered", "WorkerProc initialization", "Executor failed")
"""What vLLM's outer processes say when an inner one has already said why."""

_PROGRESS = (
    (re.compile(r"Initializing a V1 LLM engine"), "starting the model's processes"),
    (re.compile(r"Starting to load model"), "loading the model"),
    (re.compile(r"Loading \w+ checkpoint shards: +(\d+)% Completed \| (\d+/\d+)"), "loading weights: {} %, file {}"),
    (re.compile(r"Loading weights took"), "weights loaded"),
    (re.compile(r"Dynamo bytecode transform|Compiling a graph|Start compiling"), "compiling the model"),
    (re.compile(r"GPU KV cache size|CPU KV cache size|# (?:GPU|CPU) blocks"), "preparing memory"),
    (re.compile(r"Capturing (?:\w+ )?CUDA graphs.*?: +(\d+)%"), "capturing graphs: {} %"),
)
"""What vLLM prints on its way, in the order in which it comes."""


def last_error(log: Path, start: int = 0) -> str:
    """The last error in `log` that is a cause, as " (the error)", or "" when there is none after byte `start`."""
    lines = [_PREFIX.sub("", line).strip() for line in text(log, start).splitlines()]
    errors = [line for line in lines if _ERROR.match(line) and not any(text in line for text in _CONSEQUENCE)]
    return f" ({errors[-1][:LINE_CHARACTERS]})" if errors else ""


def continued(log: Path) -> BinaryIO:
    """The log opened for a new process to write at its end; one that has grown long is first moved aside, to `.1`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    file = log.open("ab")
    file.seek(0, os.SEEK_END)
    return file


def progress(told: str) -> str:
    """How far a start has come, in words for people, from what vLLM printed so far; "" when it does not say."""
    found = [(match.start(), words, match) for pattern, words in _PROGRESS for match in pattern.finditer(told)]
    if not found:
        return ""
    _, words, match = max(found, key=lambda each: each[0])
    return words.format(*match.groups())


def text(log: Path, start: int = 0) -> str:
    """What was printed after byte `start`, of that the last TAIL_BYTES; "" when the log cannot be read."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
