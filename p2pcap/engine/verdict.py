"""What follows from the end of an engine's process: smaller settings, giving up, or neither. Pure."""

from pathlib import Path

from p2pcap.engine import complaints, memory
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.life import End
from p2pcap.errors import EngineStartError, ModelError


def with_less_memory(end: End, settings: EngineSettings, was_ready: bool, log: Path) -> EngineSettings | None:
    """The settings to start with next when it ended for lack of memory; None when it did not, or has worked before and
    none would help. What servers elsewhere print into its log is about their memory.

    Raises EngineStartError when it never came up and none would help.
    """
    if settings.endpoints:
        return None
    missing = memory.lack(end.printed) or (memory.Lack("work") if end.short_of_memory else None)
    if missing is None:
        return None
    less = memory.smaller(settings, missing)
    if less is None and not was_ready:
        raise EngineStartError(f"{memory.too_little(missing)} Its log is {log}.")
    return less


def give_up_if_hopeless(end: End, settings: EngineSettings, was_ready: bool, log: Path) -> None:
    """Raises ModelError or EngineStartError when another start would end the same way: it said itself why it does not
    come up, and has not come up before."""
    if end.refused is None:
        return
    known = None if settings.endpoints else complaints.known(end.reason) or complaints.known(end.printed)
    if known is not None and known.model_at_fault:
        raise ModelError(known.sentence)
    if known is None and end.refused.model_at_fault:
        raise ModelError(end.refused.reason)
    if not was_ready:
        raise EngineStartError(f"{known.sentence if known else end.reason} Its log is {log}.")
