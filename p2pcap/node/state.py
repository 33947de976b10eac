"""What a node is doing, in one word and in a sentence: for people, and for whatever steers it.

Pure. The first that is true of these says it: the node ends, has no project yet, does not caption, is told to hold
back, has nothing left to do, its engines are not there, it works, it waits.
"""

from typing import Literal

import msgspec

from p2pcap.node.hold import Hold

NodeState = Literal[
    "starting", "working", "idle", "finishing", "paused", "finished", "observing", "serving", "stopping"
]
"""starting: it gets the project, the model or its engines; working: it captions, or checks others' captions; idle:
there is nothing to do for it now; finishing: it is told to hold back, and does what is in hand; paused: it is told to
hold back, and has nothing in hand; finished: every image has its row, and it stays; observing: it holds the table and
captions nothing; serving: a coordinator or seeder, the same; stopping: it does what is in hand and ends."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a node at one moment. `in_hand`: slices are claimed and not published; `checking`: there are
    captions of others to check; `over`: the project's deadline or end has come. `engine` is a phase of
    p2pcap.node.snapshot.EngineInfo, `detail` what it says beside."""

    role: str
    ends: bool = False
    has_project: bool = True
    hold: Hold | None = None
    in_hand: bool = False
    checking: bool = False
    finished: bool = False
    admitted: bool = True
    project_paused: bool = False
    over: bool = False
    engine: str = "ready"
    detail: str = ""


def state_of(facts: Facts) -> tuple[NodeState, str]:
    """The state, and why it is that."""
    if facts.ends:
        return "stopping", "does what is in hand, and leaves"
    if not facts.has_project:
        return "starting", "looks for a peer that has the project"
    if facts.role != "volunteer":
        return _of_one_who_captions_nothing(facts.role)
    if facts.hold is not None:
        return ("finishing" if facts.in_hand else "paused"), facts.hold.why
    if facts.finished and not facts.checking:
        return "finished", "every image has its row; it serves others"
    return _of_a_volunteer(facts)


def _of_one_who_captions_nothing(role: str) -> tuple[NodeState, str]:
    if role == "observer":
        return "observing", "holds the table and watches"
    return "serving", f"a {role}: it hands out what it has"


def _of_a_volunteer(facts: Facts) -> tuple[NodeState, str]:
    if not facts.admitted:
        return "idle", "it is not admitted: tell the maintainer its key"
    if facts.project_paused:
        return "idle", "the maintainer has paused the project"
    if facts.over:
        return "idle", "the project's time is over"
    if facts.in_hand:
        return "working", "captions" if facts.engine in ("ready", "captioning") else _waits(facts)
    if facts.engine == "off":
        return "idle", "there is no work for it now"
    if facts.engine not in ("ready", "captioning"):
        return "starting", _waits(facts)
    if facts.checking:
        return "working", "checks captions of others"
    return "idle", "others have claimed what is left, or its images are not to be had"


def _waits(facts: Facts) -> str:
    return f"the engine is {facts.engine}" + (f": {facts.detail}" if facts.detail else "")
