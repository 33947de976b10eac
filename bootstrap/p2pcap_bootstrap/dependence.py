"""Which stages of a project file need which others.

A stage needs those that it names under `requires`, and those whose answers its texts have a place for.

Always holds: what passes here has an order in which each stage comes after those that it needs, and every place in its
texts stands for one thing.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import UNSET

from p2pcap.project.task import MAX_INPUTS
from p2pcap_bootstrap.places import Asking, Misplaced, fields_asked, stages_in
from p2pcap_bootstrap.project_file import ProjectFile, Section

Needs = Mapping[str, tuple[str, ...]]
"""What a stage needs of another, by that stage's name: prompts, in their order there."""


def check_stages(file: ProjectFile) -> None:
    """Raises Misplaced for stages that cannot be signed: without a model or a prompt, two of one name, or with needs
    that nothing meets."""
    sections = file.sections
    for section in sections:
        for key in ("model", "prompts"):
            if getattr(section.file, key) is UNSET:
                raise Misplaced(_missing(section, key, len(sections)), section.at)
    _check_names(sections)
    for section in sections:
        needs(section, sections)
    in_order(sections)
    for section in sections:
        fields_asked(askings(section, sections), section.file.fields)


def _missing(section: Section, key: str, stages: int) -> str:
    if section.at == "$":
        return f"Object missing required field `{key}`."
    return f"Object missing required field `{key}`: stage {section.name} has none, nor is there one for all stages."


def _check_names(sections: Sequence[Section]) -> None:
    names = [section.name for section in sections]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise Misplaced(f"Two stages are called {name}. Give each its own name.", f"{sections[number].at}.name")


def needs(section: Section, sections: Sequence[Section]) -> Needs:
    """What `section` needs of the others. Raises Misplaced for a stage or a prompt that is not there."""
    known = {other.name: [prompt.name for prompt in other.prompts] for other in sections}
    found: dict[str, list[str]] = {name: [] for name in section.requires}
    for number, name in enumerate(section.requires):
        _named(name, sections, f"Stage {section.name} requires", f"{section.at}.requires[{number}]")
    for what, text, at, _ in _texts(section):
        for stage, prompt in stages_in(text):
            if f"{stage}.{prompt}" not in section.file.fields or prompt in known.get(stage, ()):
                _check_prompt(stage, prompt, section, sections, what, at)
                found.setdefault(stage, []).append(prompt)
    if len(found) > MAX_INPUTS:
        raise Misplaced(f"Stage {section.name} needs {len(found)} others; {MAX_INPUTS} are the most.", section.at)
    return {name: tuple(each for each in known[name] if each in used or not used) for name, used in found.items()}


def _named(name: str, sections: Sequence[Section], what: str, at: str) -> Section:
    found = {section.name: section for section in sections}
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(found)}."
    raise Misplaced(f"{what} {name}, and there is no such stage; {hint}", at)


def _check_prompt(stage: str, prompt: str, section: Section, sections: Sequence[Section], what: str, at: str) -> None:
    if stage == section.name:
        raise Misplaced(f"{what} has a place for {{{stage}.{prompt}}}, of its own stage. Write {{{prompt}}}.", at)
    letters = f"For the letters themselves write {{{{{stage}.{prompt}}}}}."
    try:
        other = _named(stage, sections, f"{what} has a place for {{{stage}.{prompt}}}, an answer of", at)
    except Misplaced as error:
        raise Misplaced(f"{error} {letters}", at) from error
    names = [each.name for each in other.prompts]
    if prompt not in names:
        near = difflib.get_close_matches(prompt, names, n=1)
        hint = f"did you mean {{{stage}.{near[0]}}}?" if near else f"it has: {', '.join(names)}."
        raise Misplaced(
            f"{what} has a place for {{{stage}.{prompt}}}, and stage {stage} has no such prompt; {hint} {letters}", at
        )


def in_order(sections: Sequence[Section]) -> list[Section]:
    """The stages, each after those that it needs. Raises Misplaced for some that need each other."""
    wanted = {section.name: set(needs(section, sections)) for section in sections}
    done: list[Section] = []
    while len(done) < len(sections):
        names = {section.name for section in done}
        ready = [section for section in sections if section not in done and wanted[section.name] <= names]
        if not ready:
            raise _circle(sections, wanted, names)
        done += ready
    return done


def _circle(sections: Sequence[Section], wanted: Mapping[str, set[str]], done: set[str]) -> Misplaced:
    """The first circle that is met, named in order."""
    left = [section.name for section in sections if section.name not in done]
    path = [left[0]]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in left if name in wanted[path[-1]]))
    circle = path[path.index(path[-1]) :]
    at = next(section.at for section in sections if section.name == circle[0])
    return Misplaced(f"Stages need each other in a circle: {' → '.join(circle)}. Take out one of these needs.", at)


def askings(section: Section, sections: Sequence[Section]) -> list[Asking]:
    """Every text that the stage puts to its model. Its system text goes before all prompts, so that one can use no
    answer of the stage itself."""
    answers = tuple(f"{stage}.{prompt}" for stage, names in needs(section, sections).items() for prompt in names)
    names = tuple(prompt.name for prompt in section.prompts)
    return [
        Asking(text.what, text.text, names[: text.before], names[text.before :], answers, text.at)
        for text in _texts(section)
    ]


class _Text(NamedTuple):
    """A text that a stage puts to its model: for people, itself, where it stands, and how many prompts come before."""

    what: str
    text: str
    at: str
    before: int


def _texts(section: Section) -> Iterator[_Text]:
    yield _Text("The project's system text", section.file.system, section.place("system"), 0)
    for number, prompt in enumerate(section.prompts):
        at = section.place(f"prompts[{number}]")
        yield _Text(f"Prompt {prompt.name}", prompt.text, f"{at}.text", number)
        if prompt.system is not UNSET:
            yield _Text(f"The system text of prompt {prompt.name}", prompt.system, f"{at}.system", number)
