"""Structured logs: JSON lines with named fields in the node's folder, and nothing on the terminal.

What a person should see is said by the command that runs the node; the log keeps everything else.
Fields used throughout: peer, author, chunk, statement (hex id), reason, error.
"""

import logging
from pathlib import Path

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_to(path: Path, level: str = "info") -> None:
    """Send structlog's and the standard library's records to `path`, from `level` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a", buffering=1, encoding="utf-8")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter('{"library": "%(name)s", "level": "%(levelname)s", "event": %(message)r}'))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
