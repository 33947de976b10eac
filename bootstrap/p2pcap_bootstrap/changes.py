"""What a signing changes, in words: the plan that is signed against the one that would be.

Pure. Always holds: everything in which two plans differ is said, if only by the name of the record's field.
"""

import datetime
import difflib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from p2pcap.identity import peer_id_of
from p2pcap.project.chunks import goes_on, open_counts
from p2pcap.project.records import Plan, Stage
from p2pcap.project.task import Model, Prompt, Task

SHOWN = 200
"""Characters of a value that are shown."""

PLAIN = ("title", "description", "license", "fetch", "policy")
"""Fields of a plan that are said by their names."""


def changes(before: Plan, after: Plan, page: bytes = b"") -> Iterator[str]:
    """One line for each difference; none for plans that are the same. `page` is as in p2pcap.project.chunks.goes_on."""
    for field in PLAIN:
        yield from _differ(field, getattr(before, field), getattr(after, field))
    yield from _paused("project", before.paused, after.paused)
    yield from _differ("deadline", _time(before.deadline), _time(after.deadline))
    yield from _differ("verifiers", _keys(before), _keys(after))
    yield from _stages(before.stages, after.stages)
    yield from _images(before, after, page)


def _keys(plan: Plan) -> str:
    return ", ".join(map(peer_id_of, plan.verifiers)) if plan.verifiers else "only the root's"


def _images(before: Plan, after: Plan, page: bytes) -> Iterator[str]:
    held, now = open_counts(before.chunks), open_counts(after.chunks)
    if now[: len(held)] != held or not goes_on(after.chunks, before.chunks, page):
        yield "images: all chunks are made anew; nobody has seen the others"
    elif new := now[len(held) :]:
        yield f"images: {sum(new)} new ones in {len(new)} chunks"


def _stages(before: tuple[Stage, ...], after: tuple[Stage, ...]) -> Iterator[str]:
    held, now = {stage.name: stage for stage in before}, {stage.name: stage for stage in after}
    for name in [name for name in held if name not in now]:
        same = [stage.name for stage in after if stage.task == held[name].task]
        yield f"stage {name}: is called {same[0]}" if same else f"stage {name}: goes; its captions stay"
    for stage in after:
        if stage.name in held:
            yield from _stage(held[stage.name], stage)
        elif stage.task not in [other.task for other in before]:
            yield f"stage {stage.name}: new; all images are asked about it"
    if [name for name in held if name in now] != [name for name in now if name in held]:
        yield f"stages: worked on in the order {', '.join(now)}"


def _stage(before: Stage, after: Stage) -> Iterator[str]:
    what = f"stage {after.name}"
    yield from _paused(what, before.paused, after.paused)
    if before.audit != after.audit:
        yield f"{what}: " + ("calibrated" if after.audit is not UNSET else "nobody audits it any more")
    if before.task == after.task:
        yield from _differ(f"{what}, keep", len(before.keeps or ()), len(after.keeps or ()))
        return
    keeps = before.task.tid in (after.keeps or ())
    yield f"{what}: another task; " + ("images with a caption keep it" if keeps else "all images are asked about anew")
    for line in _task(before.task, after.task):
        yield f"{what}, {line}"


def _task(before: Task, after: Task) -> Iterator[str]:
    for field in Task.__struct_fields__:
        if field == "prompts":
            yield from _prompts(before.prompts, after.prompts)
        elif field == "inputs":
            yield from _inputs(before, after)
        elif field == "model":
            yield from _model(before.model, after.model)
        else:
            yield from _differ(field, getattr(before, field), getattr(after, field))


def _model(before: Model, after: Model) -> Iterator[str]:
    for field in Model.__struct_fields__:
        if field != "files":
            yield from _differ(f"model.{field}", getattr(before, field), getattr(after, field))
    held, now = ({file.name: file.hash for file in model.files} for model in (before, after))
    if others := sorted(name for name in held.keys() | now.keys() if held.get(name) != now.get(name)):
        yield f"model.files: {_shown(', '.join(others))}"


def _inputs(before: Task, after: Task) -> Iterator[str]:
    yield from _differ("needs", [needed.stage for needed in before.needs], [needed.stage for needed in after.needs])
    held = {needed.stage: needed.tid for needed in before.needs}
    for needed in after.needs:
        if held.get(needed.stage, needed.tid) != needed.tid:
            yield f"stage {needed.stage}, which it needs, has another task"


def _prompts(before: tuple[Prompt, ...], after: tuple[Prompt, ...]) -> Iterator[str]:
    held, now = {prompt.name: prompt for prompt in before}, {prompt.name: prompt for prompt in after}
    for name in [*held, *(name for name in now if name not in held)]:
        if name not in now:
            yield f"prompt {name}: goes"
        elif name not in held:
            yield f"prompt {name}: new: {_shown(now[name].text)}"
        else:
            for field in Prompt.__struct_fields__:
                yield from _differ(f"prompt {name}, {field}", getattr(held[name], field), getattr(now[name], field))
    if [*held] != [*now] and held.keys() == now.keys():
        yield f"prompts: in the order {', '.join(now)}"


def _differ(what: str, before: Any, after: Any) -> Iterator[str]:
    """The two values; of two records the fields that differ."""
    if before == after:
        return
    if isinstance(before, msgspec.Struct) and type(before) is type(after):
        for field in before.__struct_fields__:
            yield from _differ(f"{what}.{field}", getattr(before, field), getattr(after, field))
        return
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) > SHOWN:
        yield f"{what}: {_first_difference(before, after)}"
        return
    yield f"{what}: {_shown(before)} → {_shown(after)}"


def _first_difference(before: str, after: str) -> str:
    """Of two long texts, what is around the first place where they part."""
    match = difflib.SequenceMatcher(None, before[:2_000], after[:2_000], autojunk=False).get_matching_blocks()[0]
    at = match.size if match.a == match.b == 0 else 0
    return f"from character {at + 1} on: {_shown(before[at:])} → {_shown(after[at:])}"


def _paused(what: str, before: Any, after: Any) -> Iterator[str]:
    if before != after:
        yield f"{what}: {'paused' if after is True else 'goes on'}"


def _time(seconds: Any) -> str:
    if seconds is UNSET:
        return "none"
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _shown(value: Any) -> str:
    if value is UNSET or value == "" or value == ():
        return "none"
    if isinstance(value, msgspec.Struct):
        value = {key: part for key, part in msgspec.to_builtins(value, builtin_types=(bytes,)).items() if part}
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return f"{text[:SHOWN]}…" if len(text) > SHOWN else text
