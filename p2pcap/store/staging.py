"""From writes to table rows: what a group commit appends, worked out before the database is touched.

`Known` is what the file holds, in memory: ids, numbers, and for each chunk the items that have a candidate (one bit an
image). It answers "is this new?" without a query. A `Stage` collects the rows of one transaction on top of it.

Always holds: `Known` says what is committed, and nothing else; a `Stage` reaches it through `Known.absorb`, after the
commit. A stage that is dropped leaves no trace.
"""

from dataclasses import dataclass, field
from typing import Any

from p2pcap.codec import decode
from p2pcap.envelope import Envelope
from p2pcap.identity import peer_id_of
from p2pcap.ledger.records import Grant, Result
from p2pcap.project.task import Task
from p2pcap.store.writes import PutBatch, PutBlob, PutItems, PutProject, PutStatement, Write

Place = tuple[int, int]
"""Task number and chunk."""


@dataclass(frozen=True)
class Author:
    """A row of `author`. The newest grant gives the name; without one `granted` is 0."""

    no: int
    granted: int = 0
    name: str = ""


@dataclass
class Known:
    """What the file holds. `numbers`: statement id to number; `held`: numbers of results whose body is here."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    authors: dict[bytes, Author] = field(default_factory=dict)
    tasks: dict[bytes, int] = field(default_factory=dict)
    coverage: dict[Place, int] = field(default_factory=dict)
    blobs: set[bytes] = field(default_factory=set)
    item_lists: set[int] = field(default_factory=set)
    manifest: int = 0

    def absorb(self, stage: "Stage") -> None:
        """The stage was committed."""
        self.numbers |= stage.numbers
        self.held |= stage.held
        self.authors |= stage.authors
        self.tasks |= stage.tasks
        self.coverage |= stage.coverage
        self.blobs |= stage.blobs
        self.item_lists |= stage.item_lists
        self.manifest = max(self.manifest, stage.manifest)


class Stage:
    """One transaction in the making. `rows` maps a table's name to what is appended to it, in the table's columns."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.task_names: list[tuple[Any, ...]] = []
        self.contested: dict[Place, int] = {}
        self.replace_chunks = False
        self.numbers: dict[bytes, int] = {}
        self.held: set[int] = set()
        self.authors: dict[bytes, Author] = {}
        self.tasks: dict[bytes, int] = {}
        self.coverage: dict[Place, int] = {}
        self.blobs: set[bytes] = set()
        self.item_lists: set[int] = set()
        self.manifest = 0
        self._new_authors = 0

    def add(self, write: Write) -> None:
        """Stage what `write` adds to what is known and staged."""
        match write:
            case PutBatch():
                self._batch(write)
            case PutStatement():
                self._statement(write.envelope, write.received)
            case PutBlob():
                self._blob(write.hash, write.data)
            case PutItems():
                self._items(write)
            case PutProject():
                self._project(write)

    def author_rows(self) -> list[tuple[Any, ...]]:
        """New and renamed authors, in the columns of `author`."""
        return [(a.no, key, peer_id_of(key), a.name, a.granted) for key, a in self.authors.items()]

    def _append(self, table: str, row: tuple[Any, ...]) -> None:
        self.rows.setdefault(table, []).append(row)

    def _statement(self, envelope: Envelope, received: float) -> int:
        """The statement's number; a new statement is staged, and a grant's author with it."""
        held = self._known.numbers.get(envelope.id, self.numbers.get(envelope.id))
        if held is not None:
            return held
        if envelope.kind == "claim":
            raise ValueError("claims are soft state and are never stored")
        no = len(self._known.numbers) + len(self.numbers)
        self.numbers[envelope.id] = no
        self._append("statement", (no, envelope.id, envelope.kind, envelope.author, envelope.data, received))
        if envelope.kind == "grant":
            grant = decode(envelope.payload, Grant)
            self._author(grant.key, grant.time, grant.name)
        return no

    def _author(self, key: bytes, granted: int = 0, name: str = "") -> int:
        """The author's number. The newest grant gives the name, as in p2pcap.ledger.state."""
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
            self._append("task", (no, tid, "", "", []))
        return no

    def _batch(self, write: PutBatch) -> None:
        no = self._statement(write.envelope, write.received)
        if no in self._known.held or no in self.held:
            return
        self.held.add(no)
        result = write.result
        task, author = self._task(result.tid), self._author(write.envelope.author)
        self._append("batch", _batch_row(no, task, author, write))
        for row in write.rows:
            texts = [answer.text for answer in row.answers]
            tokens = [answer.tokens for answer in row.answers]
            finish = [answer.finish for answer in row.answers]
            self._append("candidate", (no, result.chunk, row.item, texts, tokens, finish, row.error, row.reason))
        self._cover((task, result.chunk), result)

    def _cover(self, place: Place, result: Result) -> None:
        """Items that had a candidate before are contested: a loser among them has to be named."""
        before = self.coverage.get(place, self._known.coverage.get(place, 0))
        if twice := before & result.items:
            self.contested[place] = self.contested.get(place, 0) | twice
        self.coverage[place] = before | result.items

    def _blob(self, hash_: bytes, data: bytes) -> None:
        if hash_ not in self._known.blobs and hash_ not in self.blobs:
            self.blobs.add(hash_)
            self._append("blob", (hash_, data))

    def _items(self, write: PutItems) -> None:
        if write.chunk in self._known.item_lists or write.chunk in self.item_lists:
            return
        self.item_lists.add(write.chunk)
        for index, item in enumerate(write.items):
            self._append("item", (write.chunk, index, item.key, item.hash, item.length))

    def _project(self, write: PutProject) -> None:
        project = write.project
        self._statement(project.root_envelope, write.received)
        self._statement(project.manifest_envelope, write.received)
        self._blob(project.manifest.plan, project.plan_data)
        self._name_task(project.task)
        if project.manifest.version > max(self._known.manifest, self.manifest):
            self.manifest = project.manifest.version
            self.replace_chunks = True
            self.rows["chunk"] = [(number, chunk.count) for number, chunk in enumerate(project.chunks)]

    def _name_task(self, task: Task) -> None:
        """The task's names: a row that came with a result before its project was known had none."""
        prompts = [prompt.name for prompt in task.prompts]
        self.task_names.append((task.model.name, task.model.revision, prompts, self._task(task.tid)))


def _batch_row(no: int, task: int, author: int, write: PutBatch) -> tuple[Any, ...]:
    result = write.result
    described = (no, task, author, result.chunk, result.offset, result.mask, result.tokens)
    return (*described, result.engine, result.time, result.root, write.body)
