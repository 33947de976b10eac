"""What the engine's log file says about its end.

vLLM's processes write tracebacks of their own, and only there is the reason why one of them ended.
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


def last_error(log: Path, start: int = 0) -> str:
    """The last error in `log` that is a cause, as " (the error)", or "" when there is none after byte `start`."""
    lines = [_PREFIX.sub("", line).strip() for line in _tail(log, start)]
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


def _tail(log: Path, start: int) -> list[str]:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
