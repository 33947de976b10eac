"""Whether rows that a file shows are what a project's volunteers signed. Pure.

Always holds: `check` passes a row only when the project's hash leads to the manifest, the manifest to the task and to
the item list, a grant to the author, and the author's signature to the row, and when every cell that `CHECKED` names
says the same as they do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.export.anchoring import hear
from p2pcap.export.section import Batch
from p2pcap.identity import peer_id_of
from p2pcap.ledger import merkle
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.leaves import Shown, mark, row_bytes
from p2pcap.ledger.records import Result
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.project.items import NO_IMAGE, ItemList

MAX_TIME = 253_402_300_799
"""Latest time, in unix seconds, that a timestamp column shows: the end of the year 9999."""

SIGNED = ("item", "statement", "image", "answers", "error", "reason")
"""Columns without which a row cannot be checked."""

KINDS = {
    "item": int, "statement": str, "image": str, "answers": list, "error": str, "reason": str, "task": str,
    "chunk": int, "caption": str, "tokens": int, "finish": str, "author": str, "author_name": str, "engine": str,
    "time": int, "model": str, "stage": str, "sealed": int, "key": str, "url": str, "file": str, "place": int,
    "fields": list,
}  # fmt: skip
"""Of each column whose cells are checked where a file has it, what a cell is when it is not None."""

CHECKED = tuple(KINDS)

ANSWER = ("prompt", "text", "tokens", "finish")
"""What a cell of `answers` has of each of them."""

Cells = Mapping[str, Sequence[Any]]
"""Columns by name, each with a value for every row, as Python values: `answers` as a list of dictionaries with prompt,
text, tokens and finish, `fields` as one of dictionaries with name and value, `time` in microseconds."""


class RowFault(UntrustedError):
    """A row is not what was signed. `index` counts the rows from 0."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


@dataclass
class _Proven:
    """A result of the proof, with the leaf hashes of its rows as they are worked out."""

    envelope: Envelope
    result: Result
    batch: Batch
    leaves: dict[int, bytes] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)

    def given(self) -> bytes:
        """What the next row says of others' answers."""
        given = self.batch.given
        if given is UNSET:
            return b""
        return given[len(self.rows)] if len(self.rows) < len(given) else b"\0"

    def root(self) -> bytes | None:
        """The root over the rows; None when too few or too many leaves are there."""
        covered = range(self.result.offset, self.result.offset + self.result.n)
        items = self.result.items
        absent = iter([self.batch.absent[at : at + 32] for at in range(0, len(self.batch.absent), 32)])
        leaves = [self.leaves.get(item) or next(absent, b"") for item in covered if items >> item & 1]
        whole = next(absent, None) is None and all(len(leaf) == 32 for leaf in leaves)
        return merkle.root(leaves) if whole else None

    def culprit(self, cells: Cells) -> int:
        """The first row that has another mark, or the place of one that is missing; where all marks fit, the result's
        first row."""
        marks = self.batch.marks
        for place, index in enumerate(self.rows):
            answers = _answers(cells["answers"][index])
            others = (cells[name][index] or "" for name in ("image", "error", "reason"))
            if marks[4 * place : 4 * place + 4] != mark(answers, *others):
                return index
        return self.rows[0] if len(marks) == 4 * len(self.rows) else self.rows[-1] + 1


def check(
    ledger: Ledger, tid: bytes, chunk: int, batches: Sequence[Batch], found: ItemList | None, cells: Cells
) -> tuple[int, int]:
    """Check all of a file's rows of one task and chunk, which stand in order. Returns how many results they are of, and
    how many of those are sealed. `found` is the chunk's item list, checked already; None where the proof has none.

    Raises RowFault for the first row that fails, and UntrustedError for what no row can be blamed for.
    """
    if tid not in ledger.project.tasks or chunk >= len(ledger.project.counts):
        raise RowFault(0, "its task or chunk is not the project's")
    faults: list[tuple[int, str]] = []
    proven = {one.envelope.id.hex(): one for one in (_open(ledger, batch) for batch in batches)}
    _place_rows(proven, tid, chunk, cells, faults)
    _check_results(ledger, proven, cells, faults)
    if not faults:
        _compare(_expected(ledger, proven, tid, chunk, found, cells), cells, faults)
    if faults:
        raise RowFault(*min(faults))
    sealed = sum(one.envelope.id in ledger.seals.by_id for one in proven.values())
    return len(proven), sealed


def _open(ledger: Ledger, batch: Batch) -> _Proven:
    try:
        envelope = open_envelope(batch.envelope)
        return _Proven(envelope, decode(envelope.payload, Result), batch)
    except CodecError as error:
        raise UntrustedError(f"The proof holds a result that cannot be read: {error}") from error


def _place_rows(
    proven: Mapping[str, _Proven], tid: bytes, chunk: int, cells: Cells, faults: list[tuple[int, str]]
) -> None:
    """Put each row to its result, by the leaf that its cells make."""
    before = -1
    columns = zip(*(cells[name] for name in SIGNED), strict=True)
    for index, (item, statement, image, answers, error, reason) in enumerate(columns):
        one = proven.get(statement)
        if item is None or item <= before:
            faults.append((index, "it stands twice in the file, or out of order"))
        elif one is None or one.result.tid != tid or one.result.chunk != chunk or not one.result.items >> item & 1:
            faults.append((index, "it is of no statement that the file proves"))
        else:
            leaf = _leaf(item, image, answers, error, reason, one.given())
            if leaf is None:
                faults.append((index, "its cells are not of the form that is signed"))
            else:
                one.rows.append(index)
                one.leaves[item] = leaf
        if faults:
            return
        before = item


def _leaf(item: int, image: Any, answers: Any, error: Any, reason: Any, given: bytes) -> bytes | None:
    """The leaf hash of a row of these cells; None where they can be no row's."""
    if error == "" or reason == "" or bool(error) == bool(answers):
        return None
    try:
        hash_ = NO_IMAGE if image is None else bytes.fromhex(image)
        if len(hash_) != 32 or (image is not None and hash_.hex() != image):
            return None
        return merkle.leaf(row_bytes(item, hash_, _answers(answers), error or "", reason or "", given))
    except (ValueError, TypeError, OverflowError, AttributeError):
        return None


def _answers(answers: Any) -> list[Shown]:
    return [(answer["text"], answer["tokens"], answer["finish"]) for answer in answers or ()]


def _check_results(ledger: Ledger, proven: Mapping[str, _Proven], cells: Cells, faults: list[tuple[int, str]]) -> None:
    """Signatures, authors, rulings and roots. A result none of whose rows is there has lost them."""
    for one in proven.values():
        if not one.rows and faults:
            continue
        if not one.rows:
            raise UntrustedError(f"All rows of the statement {one.envelope.id.hex()} are missing from the file.")
        judgement = validate(ledger, one.envelope.data, one.result.time)
        if judgement.verdict is not Verdict.ACCEPT:
            faults.append((one.rows[0], f"the project does not take its statement: {judgement.reason}"))
        elif faults and len(one.batch.marks) != 4 * len(one.rows):
            continue  # its rows were not all looked at
        elif one.root() != one.result.root:
            faults.append((one.culprit(cells), "it is not what its author signed"))
        else:
            faults += _taken_back(ledger, one, cells)


def _taken_back(ledger: Ledger, one: _Proven, cells: Cells) -> list[tuple[int, str]]:
    """Rows that a ruling in the file takes back. Of quarantine and probation, which hang on all that an author ever
    did, a file cannot tell."""
    if not ledger.counting.may_count(one.envelope.id, one.envelope.author):
        return [(one.rows[0], "it was taken back: a void or ban in the file says so")]
    if not ledger.is_wanted(one.result):
        return [(one.rows[0], "a redaction in the file closes it, or an image beside it")]
    findings = _findings(one.batch)
    if not findings:
        return []
    ledger.add_result(one.envelope.id, one.envelope.author, one.result)
    hear(ledger, findings)
    failed = ledger.trust.outcome(one.envelope.id).failed << one.result.offset
    wrong = [index for index in one.rows if failed >> cells["item"][index] & 1]
    return [(index, "verifiers found it wrong: the file itself says so") for index in wrong]


def _findings(batch: Batch) -> list[Envelope]:
    try:
        return [open_envelope(data) for data in batch.findings or ()]
    except CodecError as error:
        raise UntrustedError(f"The proof holds a finding that cannot be read: {error}") from error


def shown(
    ledger: Ledger, tid: bytes, chunk: int, batches: Sequence[Batch], found: ItemList | None, cells: Cells
) -> dict[str, list[Any]]:
    """All of CHECKED, from rows of which only SIGNED is at hand."""
    proven = {one.envelope.id.hex(): one for one in (_open(ledger, batch) for batch in batches)}
    expected = {**cells, **_expected(ledger, proven, tid, chunk, found, cells)}
    names = [prompt.name for prompt in ledger.project.tasks[tid].prompts]
    expected["answers"] = [
        [dict(zip(ANSWER, (name, *said), strict=True)) for name, said in zip(names, _answers(answers), strict=False)]
        or None
        for answers in cells["answers"]
    ]
    expected["fields"] = [[{"name": name, "value": value} for name, value in said] for said in expected["fields"]]
    return {name: list(expected[name]) for name in CHECKED if name in expected}


def _expected(
    ledger: Ledger, proven: Mapping[str, _Proven], tid: bytes, chunk: int, found: ItemList | None, cells: Cells
) -> dict[str, list[Any]]:
    """What the cells must say, of the columns that the file has."""
    of = cells["statement"]
    said = {id_: _said(ledger, one) for id_, one in proven.items()}
    count, task = len(of), ledger.project.tasks[tid]
    expected: dict[str, list[Any]] = {
        "task": [tid.hex()] * count,
        "chunk": [chunk] * count,
        "model": [task.model.name] * count,
        "caption": [answers[0]["text"] if answers else None for answers in cells["answers"]],
        "tokens": [_tokens(answers) for answers in cells["answers"]],
        "finish": [_finish(answers) for answers in cells["answers"]],
        "prompts": [[prompt.name for prompt in task.prompts] if answers else [] for answers in cells["answers"]],
    }
    expected |= {name: [said[statement][name] for statement in of] for name in SAID}
    stages = [stage.name for stage in ledger.project.stages if stage.task.tid == tid]
    if stages:
        expected["stage"] = stages * count
    return expected | _listed(found, cells)


def _tokens(answers: Any) -> int | None:
    return sum(answer["tokens"] for answer in answers) if answers else None


def _finish(answers: Any) -> str | None:
    """Why a row's answers ended: one that was cut counts for all."""
    if not answers:
        return None
    return "length" if any(answer["finish"] == "length" for answer in answers) else "stop"


SAID = ("author", "author_name", "engine", "time", "sealed")


def _said(ledger: Ledger, one: _Proven) -> dict[str, Any]:
    """What all rows of a result show alike."""
    envelope, result = one.envelope, one.result
    values = (
        peer_id_of(envelope.author),
        ledger.name_of(envelope.author),
        result.engine.hex(),
        min(result.time, MAX_TIME) * 1_000_000,
        ledger.seals.by_id.get(envelope.id),
    )
    return dict(zip(SAID, values, strict=True))


def _listed(found: ItemList | None, cells: Cells) -> dict[str, list[Any]]:
    """What the item list says of the images; nothing where the proof has no list."""
    places = cells["item"]
    if found is None:
        return {name: [None] * len(places) for name in ("key", "url", "file", "place")} | {"fields": [[]] * len(places)}
    items = [found.items[item] for item in places]
    planned = [item.hash.hex() or image for item, image in zip(items, cells["image"], strict=True)]
    return {
        "image": planned,
        "key": [item.key for item in items],
        "url": [item.url or None for item in items],
        "file": [found.file.file if found.file else None] * len(places),
        "place": [None if item.at is UNSET else item.at for item in items],
        "fields": [sorted(item.metadata.items()) for item in items],
    }


def _compare(expected: Mapping[str, list[Any]], cells: Cells, faults: list[tuple[int, str]]) -> None:
    """Each column as a whole, and only where that differs cell by cell."""
    told = dict(cells) | {"prompts": [[answer["prompt"] for answer in row or ()] for row in cells["answers"]]}
    if "fields" in told:
        told["fields"] = [_pairs(value) for value in told["fields"]]
    for name, values in expected.items():
        if name in told and list(told[name]) != values:
            index = next(i for i, value in enumerate(values) if told[name][i] != value)
            faults.append((index, f"it shows another {name} than was signed"))


def _pairs(fields: Any) -> list[tuple[Any, Any]]:
    """Names and values in the order of the names: a list has them in the order of their encodings."""
    return sorted((one["name"], one["value"]) for one in fields or ())
