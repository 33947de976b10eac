"""The first screen: this node and its project on one page.

 This node   …2abc "attic"      volunteer      up 3d 4h
 Rate        3.2 img/s (avg 2.9)  ▁▂▅▇▆▇
 GPU 0       captioning  97 % busy  68 °C  312 of 350 W
 Chunk 12    ███████▌░░  612 / 1 000   ETA 2m 0s   lease 18m 0s
── Project ─────────────────────────────────
 Done        ███████▏░░  38.4 %   1 921 004 / 5 000 000   ETA 6d 2h
"""

from collections.abc import Sequence

from p2pcap.cli.amounts import duration, size
from p2pcap.cli.status import reached
from p2pcap.node.snapshot import ClaimInfo, EngineUnit, NodeSnapshot
from p2pcap_tui.moment import Moment
from p2pcap_tui.state import State, state_of
from p2pcap_tui.views.lines import LinesView
from p2pcap_tui.words import Line, Span, bar, number, share, short, sparkline, wrapped

LABEL = 12
"""Columns of the words at the left."""

UNITS, CLAIMS, NOTES = 8, 4, 4
"""Engines, claims and warnings that are listed."""


SHORT = 18
"""Lines below which what matters most comes first, since the rest has to be scrolled to."""

FIRST = ("State", "Done", "Rate", "Chunk", "Swarm", "Captions")
"""What matters most, by the first word of its label."""


def overview(moment: Moment, width: int, height: int = 24) -> list[Line]:
    """The page in `width` columns, where `height` lines can be seen at a time."""
    snapshot = moment.snapshot
    if snapshot is None:
        return [[], *wrapped(moment.trouble or "waiting for the node …", width, "warn" if moment.trouble else "dim")]
    node, project = _node(moment, snapshot, width), _project(moment, snapshot, width)
    if height < SHORT:
        return _most_first([*node, *project])
    return [*node, _rule("Project", width), *project]


def _most_first(lines: list[Line]) -> list[Line]:
    """The lines in the order of FIRST, those without a label after the one they belong to."""
    places, place = [], len(FIRST)
    for line in lines:
        if words := line[0][0].split():
            place = FIRST.index(words[0]) if words[0] in FIRST else len(FIRST)
        places.append(place)
    return [line for _, line in sorted(zip(places, lines, strict=True), key=lambda pair: pair[0])]


def _line(label: str, *spans: Span) -> Line:
    return [(f" {label:<{LABEL}}", "dim"), *spans]


def _rule(title: str, width: int) -> Line:
    return [(f"── {title} " + "─" * max(0, width - len(title) - 4), "dim")]


def _node(moment: Moment, snapshot: NodeSnapshot, width: int) -> list[Line]:
    node, state = snapshot.node, state_of(moment)
    called = f' "{node.name}"' if node.name else ""
    return [
        _line("This node", (f"{short(node.peer_id)}{called}", "strong"), (f"  {node.role}", "")),
        *_state(state, width),
        _line("Up", (f"{duration(snapshot.uptime)}, p2pcap {node.version}, process {node.pid}", "")),
        *_engine(moment, snapshot, width),
        *[_claim(claim, snapshot.engine.rate, width) for claim in snapshot.claims[:CLAIMS]],
        *_network(snapshot),
        *_standing(snapshot),
    ]


def _state(state: State, width: int) -> list[Line]:
    """The state, and why it is so: below it where there is no room beside it."""
    word = f"{state.glyph} {state.word}"
    why = wrapped(state.why, width - LABEL)
    if len(why) == 1 and LABEL + 1 + len(word) + 2 + len(state.why) <= width - 2:
        return [_line("State", (word, state.style), (f"  {state.why}", "dim"))]
    return [_line("State", (word, state.style)), *[_line("", (part[0][0].strip(), "dim")) for part in why]]


def _engine(moment: Moment, snapshot: NodeSnapshot, width: int) -> list[Line]:
    engine = snapshot.engine
    if engine.phase == "off":
        return [_line("Engine", ("none: this node does not caption", "dim"))]
    rate = f"{engine.rate:.1f} img/s (avg {engine.average:.1f})  "
    lines = [
        _line("Rate", (rate, "strong"), (sparkline(moment.rates, _spark(width)), "accent")),
        _line("In hand", (f"{engine.in_flight} images, {engine.tokens:.0f} tokens/s, KV {100 * engine.kv:.0f} %", "")),
        *[_unit(unit) for unit in engine.units[:UNITS]],
    ]
    if engine.restarts:
        lines.append(_line("Restarts", (f"! {engine.restarts} of the engine", "warn")))
    return lines + [_line("Note", (f"! {notice}", "warn")) for notice in engine.notices[:NOTES]]


def _unit(unit: EngineUnit) -> Line:
    parts = [unit.phase]
    if unit.busy is not None:
        parts.append(f"{100 * unit.busy:.0f} % busy")
    if unit.temperature is not None:
        parts.append(f"{unit.temperature} °C")
    if unit.power is not None:
        limit = f" of {unit.power_limit:.0f}" if unit.power_limit is not None else ""
        parts.append(f"{unit.power:.0f}{limit} W")
    parts += [text for text in (unit.device, unit.detail) if text]
    return _line(unit.name[:LABEL] or "Engine", ("  ".join(parts), "bad" if unit.phase == "failed" else ""))


def _claim(claim: ClaimInfo, rate: float, width: int) -> Line:
    left = claim.images - claim.done
    eta = f"   ETA {duration(left / rate)}" if rate > 0 and left else ""
    told = f" {number(claim.done)} / {number(claim.images)}{eta}   lease {duration(claim.lease)}"
    return _line(f"Chunk {claim.chunk}", (bar(claim.done, claim.images, _bar(width)), "accent"), (told, ""))


def _network(snapshot: NodeSnapshot) -> list[Line]:
    network = snapshot.network
    moved = f"{size(network.sent)} sent, {size(network.received)} received; "
    held = f"{number(snapshot.fetch.images)} images held here"
    return [
        _line("Network", (f"{network.incoming} in, {network.outgoing} out; {reached(network)}", "")),
        _line("", (moved + held, "")),
        *[_line("", (f"! {trouble}", "warn")) for trouble in network.troubles[:NOTES]],
    ]


def _standing(snapshot: NodeSnapshot) -> list[Line]:
    standing = snapshot.standing
    if standing is None:
        return []
    told = f"{number(standing.captions)} captions, tier {standing.tier}; {number(standing.passed)} found right, "
    lines = [_line("Yours", (told + f"{number(standing.failed)} wrong", ""))]
    if standing.quarantined:
        lines.append(_line("", ("! in quarantine: only what was checked counts", "bad")))
    return [*lines, *([_line("", (standing.why, "dim"))] if standing.why else [])]


def _project(moment: Moment, snapshot: NodeSnapshot, width: int) -> list[Line]:
    project = snapshot.project
    if not project.images:
        return [_line("", (project.title, "strong"), ("  not received yet", "warn"))]
    part = f" {share(project.done, project.wanted)}"
    eta = _eta(project.wanted - project.done, moment.swarm)
    done = f"   {number(project.done)} / {number(project.wanted)}"
    return [
        _line("Title", (project.title, "strong"), (f"  v{project.manifest} signed by {short(project.signed_by)}", "")),
        _line(
            "Done", (bar(project.done, project.wanted, _bar(width)), "accent"), (part, "strong"), (f"{eta}{done}", "")
        ),
        _line("Chunks", (f"{number(project.chunks_done)} / {number(project.chunks)}", "")),
        _line("Captions", (number(project.captions), ""), *_errors(project.errors)),
        _swarm(moment, snapshot, width),
        *_checked(snapshot),
        *_sealed(snapshot),
        *[_line("Stage", (f"{stage.name}  {stage.model}", "")) for stage in project.stages[:UNITS]],
        *[_line("Warning", (f"! {warning}", "warn")) for warning in project.warnings[:NOTES]],
    ]


def _errors(errors: int) -> list[Span]:
    return [(f"   errors {number(errors)}", "bad" if errors else "dim")]


def _eta(left: int, rates: Sequence[float]) -> str:
    if left <= 0:
        return "   finished"
    return f"   ETA {duration(left / rates[-1])}" if rates and rates[-1] > 0 else ""


def _swarm(moment: Moment, snapshot: NodeSnapshot, width: int) -> Line:
    rate = f"{moment.swarm[-1]:.1f} img/s  " if moment.swarm else ""
    told = f"{number(snapshot.connected)} peers  {number(snapshot.engines_ready)} engines ready  {rate}"
    return _line("Swarm", (told, ""), (sparkline(moment.swarm, _spark(width)), "accent"))


def _checked(snapshot: NodeSnapshot) -> list[Line]:
    """What verifiers found of everybody's captions."""
    right = sum(one.standing.passed for one in snapshot.contributors)
    wrong = sum(one.standing.failed for one in snapshot.contributors)
    if not right + wrong:
        return []
    disputed = f"   contradictions {len(snapshot.contradictions)}" if snapshot.contradictions else ""
    most = "" if snapshot.contributing <= len(snapshot.contributors) else " of the largest contributors"
    told = f"{share(right, right + wrong)} of {number(right + wrong)} that were looked at{most}{disputed}"
    return [_line("Verified", (told, "good" if not wrong else "warn"))]


def _sealed(snapshot: NodeSnapshot) -> list[Line]:
    project = snapshot.project
    if not project.checkpoint:
        return []
    return [_line("Sealed", (f"{number(project.sealed)} statements, up to checkpoint {project.checkpoint}", ""))]


def _bar(width: int) -> int:
    return max(6, min(40, width // 4))


def _spark(width: int) -> int:
    return max(0, min(60, width - 50))


class Overview(LinesView):
    """The page."""

    NAME, DIGIT, TITLE = "overview", "1", "Overview"
    ABOUT = "this node and its project on one page"

    def lines(self, moment: Moment) -> list[Line]:
        """The page."""
        return overview(moment, self.size.width or 80, self.size.height or 24)
