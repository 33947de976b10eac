"""What the maintainer signed, in words: the page of the project's screen.

Pure. Titles, descriptions, prompts and names are strangers' text, in these spans as they came: p2pcap_tui.words cleans
them.
"""

import datetime
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from p2pcap.cli.amounts import duration, size
from p2pcap.cli.output import clean
from p2pcap.node.manifest_info import ManifestInfo, StageDetail
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap_tui.words import Line, Span, number, share, short

LABEL = 16
"""Columns of the words at the left."""

SOON = 14 * 86_400
"""Seconds before the expiry from which on it is warned of."""

ADMISSION = {
    "invite": "whoever has an invitation",
    "allowlist": "whom the maintainer admits by name, and nobody else",
    "open": "whoever has an invitation, or solves a puzzle",
}

PUBLISHED = (
    "your captions with the key and the name you chose; when you made them; which kind of engine made them. "
    "Peers see your address. Images, other files and settings of yours are told to nobody."
)
"""What of a volunteer everybody can see (docs/threat-model.md)."""


@dataclass(frozen=True)
class Folder:
    """A maintainer's folder on this machine: its path and the key files in it."""

    path: str
    keys: tuple[str, ...]


def project_page(
    found: ManifestInfo | None, snapshot: NodeSnapshot | None, now: float, folder: Folder | None, width: int = 80
) -> list[Line]:
    """The page in `width` columns at local time `now`, without what is not signed yet."""
    if found is None:
        return [[], [(" waiting for the project …", "dim")]]
    lines = [
        *_warnings(found, snapshot, now),
        *_who(found, now),
        *_how_far(found, snapshot),
        *_rules(found, now),
        *[line for stage in found.stages for line in _stage(stage)],
        _line("Published", (PUBLISHED, "")),
        *(_folder(folder) if folder is not None else []),
    ]
    return [part for line in lines for part in folded(line, width)]


def folded(line: Line, width: int) -> list[Line]:
    """A line that begins with a label, as lines of `width` columns: the later ones begin below its text, or in a narrow
    page below the label."""
    if not line:
        return [line]
    label, left = (line[0][0], LABEL + 1) if width >= NARROW else (f" {line[0][0].strip()}  ", 3)
    lines: list[list[Span]] = [[(label, line[0][1])]]
    used = len(label)
    for text, style in line[1:]:
        for word in _WORDS.findall(clean(text)):
            for part in _pieces(word, max(8, width - left)):
                if used > left and used + len(part.rstrip()) > width:
                    lines.append([(" " * left, "")])
                    used, part = left, part.lstrip()
                if used + len(part) > width:
                    part = part.rstrip()
                lines[-1].append((part, style))
                used += len(part)
    return [*lines]


def _pieces(word: str, room: int) -> list[str]:
    return [word[start : start + room] for start in range(0, len(word), room)]


NARROW = 60
"""Columns of a page below which labels stand in no column of their own."""

_WORDS = re.compile(r"\s*\S+\s?")
"""Words, with the white space about them."""


def _line(label: str, *spans: Span) -> Line:
    return [(f" {label:<{LABEL}}", "dim"), *spans]


def _warnings(found: ManifestInfo, snapshot: NodeSnapshot | None, now: float) -> Iterator[Line]:
    for warning in snapshot.project.warnings if snapshot else ():
        yield _line("Warning", (f"! {warning}", "warn"))
    if found.paused:
        yield _line("Paused", ("! all of it, by the maintainer: nobody works on it", "warn"))
    if found.deadline is not None and found.deadline < now:
        yield _line("Deadline", (f"! passed on {_day(found.deadline)}: no new work is begun", "warn"))
    if now <= found.expires < now + SOON:
        yield _line("Expires", (f"! in {duration(found.expires - now)}: the maintainer must sign it again", "warn"))


def _who(found: ManifestInfo, now: float) -> Iterator[Line]:
    called = f"  (called {found.title} now)" if found.title != found.name else ""
    yield _line("Project", (found.name, "strong"), (called, ""))
    if found.description:
        yield _line("About", (found.description, ""))
    yield _line("License", (found.license or "none given: ask the maintainer", "" if found.license else "warn"))
    yield _line("Root", (fingerprint(found.id), "accent"), (f"  version {found.root_version}", "dim"))
    signed = f"v{found.version} of {_day(found.created)}, signed by {short(found.signed_by)}"
    yield _line("Manifest", (signed, ""), *_holds(found, now))
    for role in found.keys:
        need = f"{role.threshold} of {len(role.keys)}: " if len(role.keys) > 1 else ""
        yield _line(f"{role.role} key", (need + ", ".join(map(short, role.keys)), "dim"))
    yield _line("Verifiers", (", ".join(map(short, found.verifiers)), "dim"))
    if found.former_keys:
        yield _line("Former keys", (", ".join(map(short, found.former_keys)), "dim"))


def _holds(found: ManifestInfo, now: float) -> tuple[Span, ...]:
    if found.expires < now:
        return ((f"  ✗ EXPIRED on {_day(found.expires)}", "bad"),)
    return (("  ✓ holds", "good"), (f" until {_day(found.expires)}", "dim"))


def _how_far(found: ManifestInfo, snapshot: NodeSnapshot | None) -> Iterator[Line]:
    yield _line("Images", (f"{number(found.images)} in {number(found.chunks)} chunks", ""))
    if snapshot is None:
        return
    project = snapshot.project
    done = (
        f"{share(project.done, project.wanted)}, {number(project.captions)} captions, {number(project.errors)} errors"
    )
    yield _line("Done", (done, ""))
    if project.checkpoint:
        sealed = f"{number(project.sealed)} statements, up to checkpoint {project.checkpoint}"
        yield _line("Sealed", (sealed, ""))


def _rules(found: ManifestInfo, now: float) -> Iterator[Line]:
    yield _line("Who may join", (ADMISSION.get(found.admission, found.admission), ""))
    tries = f"{found.attempts} attempts an image; {found.error_authors} authors make an error final"
    waits = f"; begins with {found.wait_for_engines} engines" if found.wait_for_engines > 1 else ""
    yield _line("Rules", (tries + waits, ""))
    checks = f"one item in {found.peer_audits} of one's own" if found.peer_audits else "none by volunteers"
    bans = "" if found.bans else "; nobody is banned without the maintainer"
    yield _line("Checks", (checks + bans, ""))
    if found.deadline is not None and found.deadline >= now:
        yield _line("Deadline", (f"{_day(found.deadline)}, in {duration(found.deadline - now)}", ""))
    if found.hosts:
        yield _line("Hosts", (f"! may lie at private addresses: {', '.join(found.hosts)}", "warn"))
    if not found.robots:
        yield _line("Robots", ("! robots.txt is not asked", "warn"))
    if found.former:
        yield _line("Former", (f"{found.former} tasks of earlier manifests, whose captions stay", "dim"))


def _stage(stage: StageDetail) -> Iterator[Line]:
    where = f"@{stage.revision[:12]}" if stage.revision else f", {stage.files} files, {size(stage.bytes)}, by peers"
    state = (("  ! paused", "warn"),) if stage.paused else ()
    yield []
    yield _line("Stage", (stage.name, "strong"), (f"  task {stage.task}", "dim"), *state)
    quantized = f", {stage.quantization}" if stage.quantization else ""
    edge = f"; images at most {stage.edge} pixels long" if stage.edge else ""
    yield _line("Model", (stage.model, "accent"), (f"{where}, {stage.dtype}{quantized}{edge}", ""))
    if stage.needs:
        yield _line("After", (", ".join(stage.needs), ""))
    yield _line("Audit", (stage.audit or "! nobody checks its captions", "" if stage.audit else "warn"))
    for prompt in stage.prompts:
        heat = f", temperature {prompt.temperature:g}" if prompt.temperature else ""
        shown = "" if prompt.image else ", without the image"
        yield _line(prompt.name[:LABEL], (prompt.text, ""), (f"  (up to {prompt.tokens} tokens{heat}{shown})", "dim"))
        if prompt.system:
            yield _line("", ("system: ", "dim"), (prompt.system, "dim"))


def _folder(folder: Folder) -> Iterator[Line]:
    yield []
    yield _line("Maintainer", (folder.path, "strong"), (f"  keys here: {', '.join(folder.keys) or 'none'}", ""))
    for command, why in commands(folder):
        yield _line("", (command, "accent"), (f"   {why}", "dim"))


def commands(folder: Folder) -> list[tuple[str, str]]:
    """What the maintainer may run, and why. Signing asks for the keys' passphrase, so it is no business of a screen."""
    path = quoted(folder.path)
    return [
        (f"p2pcap project diff {path}", "what the next signing would change: press d"),
        (f"p2pcap project sign {path}", "sign what project.yaml says now"),
        (f"p2pcap project publish {path}", "hand what is signed to the swarm"),
        (f"p2pcap project pause {path}", "nobody begins anything new; resume ends it"),
        (f"p2pcap invite {path}", "another ticket"),
    ]


def quoted(path: str) -> str:
    """A path as one word for a shell."""
    return shlex.quote(path)


def fingerprint(id_: str) -> str:
    """A hash in groups of four, as people compare it aloud."""
    return " ".join(id_[start : start + 4] for start in range(0, len(id_), 4))


def diff_lines(output: str, code: int) -> list[Line]:
    """What `p2pcap project diff` said, with its exit code."""
    lines = [line for line in output.splitlines() if line.strip()]
    style = "" if code == 0 else "bad"
    head = _line("Not signed yet", *(() if lines else (("nothing would change", "good"),)))
    return [[], head, *[[(f"   {line}", style)] for line in lines]]


def _day(seconds: int) -> str:
    """A day; a maintainer may sign any number."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return "a day far off"
