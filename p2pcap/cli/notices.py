"""What a command that is no node logs: warnings, for people, on standard error; the rest is left out.

Always holds: standard output stays the command's own, and what strangers wrote cannot steer the terminal.
"""

import logging
from collections.abc import Mapping

import structlog
from structlog.typing import EventDict, WrappedLogger

from p2pcap.cli.output import warn


def show_warnings() -> None:
    """From now on warnings of this process are lines on standard error."""
    structlog.configure(processors=[_show], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def _show(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    said = event.pop("event")
    warn(f"{said}: {', '.join(f'{key} {_shown(value)}' for key, value in event.items())}")
    raise structlog.DropEvent


def _shown(value: object) -> str:
    """A value as people write it: a mapping as "12 links, 3 devices"."""
    return ", ".join(f"{count} {what}" for what, count in value.items()) if isinstance(value, Mapping) else str(value)
