"""From writes to table rows: what a group commit changes, worked out before the database is touched.

A `Stage` collects the changes of one transaction on top of what is `Known`: rows to append, rows to delete, and what
has to be ranked anew (p2pcap.store.ranking).

Always holds: a stage reaches `Known` through `absorb`, after the commit. A stage that is dropped leaves no trace.
"""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.envelope import Envelope
from p2pcap.identity import peer_id_of
from p2pcap.ledger.body import error_bits
from p2pcap.ledger.checkpoint import tiers_blob
from p2pcap.ledger.checks import ALL, UNRULED, Ruled
from p2pcap.ledger.records import Grant, Profile, Result
from p2pcap.project.opened import Project
from p2pcap.store.appending import item_values
from p2pcap.store.known import Author, Known, Place
from p2pcap.store.rulings import ruling_rows
from p2pcap.store.standing import Judging
from p2pcap.store.writes import (
    DropBlobs,
    DropBodies,
    PutBatch,
    PutBlob,
    PutChecked,
    PutItems,
    PutProject,
    PutRedaction,
    PutSeal,
    PutStanding,
    PutStatement,
    Write,
)


class Stage:
    """One transaction in the making. `rows` maps a table's name to what is appended to it, in the table's columns.

    `replaced` are the ids of statements to delete, `redactions` what takes rows away, `touched` the items to be ranked
    anew, and `moved` the ids of results in the file whose standing may be another one. `dropping` are the results whose
    bodies go after the appends, `restored` those whose bodies come back. `named` are chunks that have rows already, and
    whose list says the hash of every image, so that the rows need not.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.task_names: list[tuple[Any, ...]] = []
        self.judging = Judging(known.judged)
        self.replaced: set[bytes] = set()
        self.redactions: list[PutRedaction] = []
        self.dropped_blobs: set[bytes] = set()
        self.moved: set[bytes] = set()
        self.touched: dict[Place, int] = {}
        self.fallen: set[int] = set()
        self.project: Project | None = None
        self.error_authors = known.error_authors
        self.numbers: dict[bytes, int] = {}
        self.checked: set[int] = set()
        self.dropping: set[int] = set()
        self.restored: set[int] = set()
        self.authors: dict[bytes, Author] = {}
        self.tasks: dict[bytes, int] = {}
        self.covered: dict[Place, int] = {}
        self.contested: dict[Place, int] = {}
        self.redacted: dict[int, int] = {}
        self.blobs: dict[bytes, bytes] = {}
        self.item_lists: dict[int, bool] = {}
        self.named: set[int] = set()
        self._batches: list[tuple[int, Envelope, Result, int, Place]] = []
        self._new_authors = 0

    def add(self, write: Write) -> None:
        """Stage what `write` changes in what is known and staged."""
        match write:
            case PutBatch():
                self._batch(write)
            case PutChecked():
                self._checked(write)
            case DropBodies():
                self._drop_bodies(write.ids)
            case PutStatement():
                self._statement(write.envelope, write.received)
                if write.replaces is not None and self._number(write.replaces) is not None:
                    self.replaced.add(write.replaces)
            case PutStanding():
                self._rule(write.id, write.ruled)
            case PutRedaction():
                self._redact(write)
            case PutSeal():
                self._seal(write)
            case PutBlob():
                self._blob(write.hash, write.data)
            case DropBlobs():
                self._drop_blobs(write.hashes)
            case PutItems():
                self._items(write)
            case PutProject():
                self._project(write)

    def finish(self) -> None:
        """Nothing more is staged: add what follows from all of it together."""
        self.rows["blob"] = list(self.blobs.items())
        for id_, ruled in self.judging.ruled.items():
            if ruled != UNRULED:
                self._append("ruled", (id_, *ruled))
        if self.judging.moves_tiers:
            self.rows["tier"] = list(self.judging.tiers.items())
        for no, envelope, result, errors, place in self._batches:
            standing = self.judging.standing(no, envelope.id, envelope.author, errors >> result.offset)
            self._append("standing", astuple(standing))
            self.touch(place, result.items, only_contested=standing.counted == ALL)

    def touch(self, place: Place, items: int, only_contested: bool) -> None:
        """These items are to be ranked anew; or those of them that are contested."""
        if only_contested:
            items &= self._contested(place)
        if items:
            self.touched[place] = self.touched.get(place, 0) | items

    def author_rows(self) -> list[tuple[Any, ...]]:
        """New and renamed authors, in the columns of `author`."""
        return [(a.no, key, peer_id_of(key), a.name, a.granted) for key, a in self.authors.items()]

    def absorb(self) -> None:
        """The stage was committed: now it is known."""
        known = self._known
        known.next_no += len(self.numbers)
        known.numbers |= self.numbers
        for id_ in self.replaced:
            known.numbers.pop(id_, None)
        known.checked |= self.checked
        known.checked -= self.fallen
        known.dropped -= self.restored
        known.dropped |= self.dropping
        known.dropped -= self.fallen
        known.authors |= self.authors
        known.tasks |= self.tasks
        known.covered |= self.covered
        known.contested |= self.contested
        known.redacted |= self.redacted
        known.blobs |= self.blobs.keys()
        known.blobs -= self.dropped_blobs
        known.item_lists |= self.item_lists
        known.error_authors = self.error_authors
        if self.project is not None:
            known.version = self.project.version
        self.judging.settle()

    def _append(self, table: str, row: tuple[Any, ...]) -> None:
        self.rows.setdefault(table, []).append(row)

    def _number(self, id_: bytes) -> int | None:
        return self._known.numbers.get(id_, self.numbers.get(id_))

    def _contested(self, place: Place) -> int:
        return self.contested.get(place, self._known.contested.get(place, 0))

    # statements and results

    def _statement(self, envelope: Envelope, received: float) -> int:
        """The statement's number; a new statement is staged, with what it says of authors and of others' statements."""
        held = self._number(envelope.id)
        if held is not None:
            return held
        if envelope.kind == "claim":
            raise ValueError("claims are soft state and are never stored")
        no = self._known.next_no + len(self.numbers)
        self.numbers[envelope.id] = no
        self._append("statement", (no, envelope.id, envelope.kind, envelope.author, envelope.data, received))
        if envelope.kind == "grant":
            grant = decode(envelope.payload, Grant)
            self._author(grant.key, grant.time, grant.name)
        if envelope.kind == "profile":
            profile = decode(envelope.payload, Profile)
            self._author(envelope.author, profile.time, profile.name)
        for table, row in ruling_rows(no, envelope):
            self._append(table, row)
        return no

    def _author(self, key: bytes, granted: int = 0, name: str = "") -> int:
        """The author's number. The newest grant or profile gives the name, as in p2pcap.ledger.state."""
        held = self.authors.get(key) or self._known.authors.get(key)
        if held is not None and (granted, name) <= (held.granted, held.name):
            return held.no
        no = held.no if held is not None else len(self._known.authors) + self._new_authors
        self._new_authors += held is None
        self.authors[key] = Author(no, granted, name)
        return no

    def _task(self, tid: bytes) -> int:
        no = self.tasks.get(tid, self._known.tasks.get(tid))
        if no is None:
            no = self.tasks[tid] = len(self._known.tasks) + len(self.tasks)
            self._append("task", (no, tid, "", "", [], "", None, None, None))
        return no

    def _batch(self, write: PutBatch) -> None:
        no, result = self._statement(write.envelope, write.received), write.result
        if result.items & self._redacted(result.chunk) or (self._is_checked(no) and not self._take_back(no)):
            return
        self._result(no, write.envelope, result, error_bits(write.rows), write.body)
        hashed = self._is_hashed(result.chunk)
        for row in write.rows:
            texts = [answer.text for answer in row.answers]
            tokens = [answer.tokens for answer in row.answers]
            finish = [answer.finish for answer in row.answers]
            image = None if hashed else row.image
            place = (no, result.chunk, row.item)
            self._append("candidate", (*place, texts, tokens, finish, row.error, row.reason, image))

    def _checked(self, write: PutChecked) -> None:
        no, result = self._statement(write.envelope, write.received), write.result
        if result.items & self._redacted(result.chunk) or self._is_checked(no):
            return
        errors = sum(1 << outcome.item for outcome in write.outcomes if outcome.error)
        self._result(no, write.envelope, result, errors, b"")
        self.dropping.add(no)
        for outcome in write.outcomes:
            self._append("candidate", (no, result.chunk, outcome.item, [], outcome.tokens, [], outcome.error, "", None))

    def _result(self, no: int, envelope: Envelope, result: Result, errors: int, body: bytes) -> None:
        """The result's row; and what it means for the ranking, unless it was checked before."""
        task, author = self._task(result.tid), self._author(envelope.author)
        described = (no, task, author, result.chunk, result.offset, result.mask, result.tokens)
        self._append("batch", (*described, result.engine, result.time, result.root, body))
        if not self._is_checked(no):
            self.checked.add(no)
            self._batches.append((no, envelope, result, errors, (task, result.chunk)))
            self._cover((task, result.chunk), result, errors)

    def _is_checked(self, no: int) -> bool:
        return no in self._known.checked or no in self.checked

    def _take_back(self, no: int) -> bool:
        """Whether the body of a checked result is to be stored again."""
        if no in self.dropping:
            self.dropping.discard(no)  # it is still there
            return False
        if no not in self._known.dropped or no in self.restored:
            return False
        self.restored.add(no)
        return True

    def _drop_bodies(self, ids: Sequence[bytes]) -> None:
        for no in map(self._number, ids):
            if no is not None and self._is_checked(no) and no not in self._known.dropped - self.restored:
                self.dropping.add(no)

    def _cover(self, place: Place, result: Result, errors: int) -> None:
        """Items that have a candidate already are contested, and so are errors."""
        before = self.covered.get(place, self._known.covered.get(place, 0))
        if contested := before & result.items | errors:
            self.contested[place] = self._contested(place) | contested
        self.covered[place] = before | result.items

    # what is said about results

    def _rule(self, id_: bytes, ruled: Ruled) -> None:
        if self.judging.rule(id_, ruled):
            self._move(id_)

    def _seal(self, write: PutSeal) -> None:
        seal, head = write.seal, len(self.judging.taken)
        new = self.judging.take(seal, write.ids)
        if len(self.judging.taken) == head:
            return
        self._append("seal", (seal.number, seal.hash, seal.beacon, tiers_blob(seal.tiers)))
        for id_ in new:
            self._append("sealed", (seal.number, id_))
            self._move(id_)

    def _move(self, id_: bytes) -> None:
        if self._known.numbers.get(id_) in self._known.checked:
            self.moved.add(id_)

    def _redacted(self, chunk: int) -> int:
        return self.redacted.get(chunk, self._known.redacted.get(chunk, 0))

    def _redact(self, write: PutRedaction) -> None:
        before = self._redacted(write.chunk)
        self.redacted[write.chunk] = before | write.items
        for item in numbers_of(write.items & ~before):
            self._append("redacted", (write.chunk, item))
        self.redactions.append(write)

    # the project

    def _blob(self, hash_: bytes, data: bytes) -> None:
        self.dropped_blobs.discard(hash_)
        if hash_ not in self._known.blobs:
            self.blobs.setdefault(hash_, data)

    def _drop_blobs(self, hashes: Sequence[bytes]) -> None:
        for hash_ in hashes:
            self.blobs.pop(hash_, None)
            if hash_ in self._known.blobs:
                self.dropped_blobs.add(hash_)

    def _items(self, write: PutItems) -> None:
        if write.chunk in self._known.item_lists or write.chunk in self.item_lists:
            return
        self.item_lists[write.chunk] = all(item.hash for item in write.items)
        if self._is_hashed(write.chunk) and self._has_rows(write.chunk):
            self.named.add(write.chunk)
        for index, item in enumerate(write.items):
            self._append("item", (write.chunk, index, *item_values(item), write.file))

    def _is_hashed(self, chunk: int) -> bool:
        """Whether the chunk's list is stored, and gives the hash of every image."""
        return self.item_lists.get(chunk, self._known.item_lists.get(chunk, False))

    def _has_rows(self, chunk: int) -> bool:
        tasks = (*self._known.tasks.values(), *self.tasks.values())
        return any((task, chunk) in covered for task in tasks for covered in (self._known.covered, self.covered))

    def _project(self, write: PutProject) -> None:
        project = write.project
        self._statement(project.root_envelope, write.received)
        self._statement(project.manifest_envelope, write.received)
        self._blob(project.manifest.plan, project.plan_data)
        if project.manifest.roots is not UNSET:
            self._blob(project.manifest.roots.hash, project.roots_data)
        newest = self.project.version if self.project is not None else self._known.version
        if project.version > newest:
            self.project = project
            self._name_tasks(project)
            self.rows["chunk"] = list(enumerate(project.counts))
            self._set_policy(project.plan.policy.authors_for_error)

    def _set_policy(self, error_authors: int) -> None:
        """Another number of authors that makes an error final: what is contested is ranked anew."""
        self.rows["policy"] = [(error_authors,)]
        if error_authors != self.error_authors:
            self.error_authors = error_authors
            for place, items in (self._known.contested | self.contested).items():
                self.touch(place, items, only_contested=True)

    def _name_tasks(self, project: Project) -> None:
        """The tasks' names: a row that came with a result before its project was known had none. What a
        stage keeps goes by its name; another former task keeps the name it had, where that is known."""
        self.task_names = []
        asked = {stage.task.tid: (stage.name, place, None, None) for place, stage in enumerate(project.stages)}
        kept = {
            tid: (stage.name, None, place, number)
            for place, stage in enumerate(project.stages)
            for number, tid in enumerate(() if stage.keeps is UNSET else stage.keeps)
        }
        for tid, task in project.tasks.items():
            prompts = [prompt.name for prompt in task.prompts]
            where = asked.get(tid) or kept.get(tid) or (None, None, None, None)
            self.task_names.append((task.model.name, task.model.revision, prompts, *where, self._task(tid)))


def numbers_of(bits: int) -> list[int]:
    """The numbers of the bits that are set, ascending."""
    return [index for index in range(bits.bit_length()) if bits >> index & 1]
