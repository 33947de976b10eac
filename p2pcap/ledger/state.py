"""What one node knows: the statements it holds, and what they add up to.

A `Ledger` is filled from the database at start and from the network after that, in any order. A statement passes it up
to three times: `hear` when it is found valid, which only steers the choice of work; `add` once it is durable, which
makes it part of the set; and, for a result, `complete` once its body is held and checked, which makes its items done.

Always holds: two ledgers to which the same statements, bodies and checkpoints were given are equal in what counts,
whatever the order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from p2pcap.envelope import Envelope
from p2pcap.ledger.allowance import Rations
from p2pcap.ledger.checkpoint import Checkpoint, Seal, Seals, Stamp
from p2pcap.ledger.checks import Ruled, Word
from p2pcap.ledger.claims import Claims
from p2pcap.ledger.counting import Counting
from p2pcap.ledger.fork import Fork
from p2pcap.ledger.grants import Admittance
from p2pcap.ledger.index import Index
from p2pcap.ledger.members import Footing, Members
from p2pcap.ledger.placing import Placing
from p2pcap.ledger.records import Claim, Grant, Profile, Result
from p2pcap.ledger.rows import Held, Rows
from p2pcap.ledger.rulings import Ban, Finding, Redact, Rulings, Void
from p2pcap.ledger.trust import Trust
from p2pcap.ledger.verdicts import Verdicts, word_of
from p2pcap.ledger.work import Work
from p2pcap.project.opened import Project
from p2pcap.project.records import Stage
from p2pcap.project.task import Task


class Ledger:
    """The state that validation and the choice of work read. One owner: the node's main task. `works` is the work on
    each task that the project knows, by its id."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.newer_root = False
        """A root is said to be in force that is not known here, so what an unknown key signs is nobody's fault."""
        self.vouched: set[bytes] = set()
        """Hashes of checkpoints on the way to those that the root names (p2pcap.ledger.authority)."""
        self.profiles: dict[bytes, Profile] = {}
        self.checkpoints: dict[int, Envelope] = {}
        self.last_checkpoint: Checkpoint | None = None
        self.forks: dict[tuple[str, int], Fork] = {}
        self.claims = Claims()
        self.rulings = Rulings()
        self.seals = Seals()
        self.members = Members(project, self.rulings, self.seals)
        self.works: dict[bytes, Work] = {}
        self.results: dict[bytes, tuple[bytes, Result]] = {}
        self.rations = Rations()
        self.stamp: Stamp | None = None
        self._by_author: dict[bytes, dict[bytes, None]] = {}
        self.counting = Counting(self.rulings, self.seals, self.members, self.results, self._by_author)
        self.trust = Trust(self.counting, self.seals)
        self.placing = Placing(self.rulings, self.seals, self.members, self.counting)
        self._redacted: dict[int, int] = {}
        self._add_works()

    @property
    def index(self) -> Index:
        """The ids of the set."""
        return self.placing.index

    @property
    def verdicts(self) -> Verdicts:
        """What verifiers and others said of results."""
        return self.counting.verdicts

    # what the project says

    def adopt(self, project: Project) -> None:
        """A newer version of the project, which follows the one that was known (p2pcap.project.opened)."""
        before, verifiers = self.members.footings(self.members.names), self.project.verifiers
        changed = self.project.audits.keys() ^ project.audits.keys()
        self.project = self.members.project = project
        for author in before:
            self.placing.place_grants(author)
        self._reseat(before)
        for work in self.works.values():
            work.rows.grow(project.counts)
            work.rows.ask_authors(project.plan.policy.authors_for_error, self.counting)
        self._add_works()
        if verifiers != project.verifiers:
            self._rejudge(verifiers ^ project.verifiers)
        if changed:
            self._recount(id_ for id_, (_, result) in self.results.items() if result.tid in changed)

    def _rejudge(self, authors: Iterable[bytes]) -> None:
        """The words of these authors are rulings now and were not, or the other way round."""
        before, self.counting.verdicts = self.verdicts, self.verdicts.under(self.counting.rules())
        for author in authors:
            self.placing.place_findings_of(author)
        self._recount(before.changed(self.verdicts))

    def _add_works(self) -> None:
        """Work on new tasks; and what each task makes of others' answers, as the project says now."""
        for tid, task in self.project.tasks.items():
            if tid not in self.works:
                self.works[tid] = self._new_work(task)
        linked = {tid: work.rows.unlink() for tid, work in self.works.items()}
        changed: set[bytes] = set()
        for rank, (tid, links) in enumerate(self.project.links.items()):
            needs, keeps = ([self.works[one].rows for one in tids] for tids in links)
            self.works[tid].rows.link(rank, needs, keeps)
            if linked[tid] != [*needs, *keeps] or changed & {*links[0], *links[1]}:
                changed.add(tid)
                self.works[tid].rows.judge()

    def _new_work(self, task: Task) -> Work:
        rows = Rows(self.project.counts, self.project.plan.policy.authors_for_error)
        for chunk, items in self._redacted.items():
            rows.redact(chunk, items, self.counting)
        return Work(task, self.project.m, rows, self.claims, self.members, self.counting)

    def cover(self, covered: Mapping[bytes, Mapping[int, int]]) -> None:
        """By task and chunk, the items that are sealed elsewhere and on their way; all others are not."""
        for tid, work in self.works.items():
            work.covered = dict(covered.get(tid, {}))

    def work_of(self, stage: Stage) -> Work:
        """The work on a stage's task."""
        return self.works[stage.task.tid]

    # taking statements in

    def hear(self, envelope: Envelope, record: Any, now: float) -> None:
        """What a valid statement means before it is durable."""
        match record:
            case Claim():
                self.claims.hold(envelope.author, record, envelope.data, now)
            case Result():
                self.announce(envelope.id, envelope.author, record, now)
            case Grant():
                self.members.hear(envelope, record, now)
            case Finding() if envelope.author not in self.project.verifiers:
                self.rations.accusations.take(envelope.author, now)

    def add(self, envelope: Envelope, record: Any) -> None:
        """A valid statement that is durable: it belongs to the set now."""
        id_, author = envelope.id, envelope.author
        if isinstance(record, Grant):
            if id_ not in self.members.kept:
                self.admit([(envelope, record)])
            self.placing.place_grants(record.key)
            return
        if self.holds(id_) or not self.placing.take_slot(record, id_, author, record.time):
            return
        match record:
            case Result():
                return self.add_result(id_, author, record)
            case Finding():
                return self._find(record.batch, word_of(id_, author, record))
            case Profile():
                self.profiles[author] = record
            case Stamp():
                self.stamp = record
            case Checkpoint():
                if record.number in self.checkpoints:
                    return  # never two of one number; the second became a fork
                self.checkpoints[record.number] = envelope
            case Fork():
                self.forks[record.kind, record.number] = record
            case Ban() | Void() | Redact():
                self.rulings.add(id_, record)
                self._apply(record)
        self.placing.put(record.time, id_, isinstance(record, Profile | Stamp | Fork | Checkpoint))

    def add_result(self, id_: bytes, author: bytes, result: Result) -> None:
        """`add` for a result whose envelope is not at hand."""
        self.results[id_] = (author, result)
        self._by_author.setdefault(author, {})[id_] = None
        self.trust.made(author, result.items.bit_count())
        if self.verdicts.joined(id_, author):
            self._recount(self._by_author[author])
        if not self.verdicts.outcome(id_).passed:
            self.members.saw(author, id_, result)
        if not self.counts(id_, author):
            self.forget(id_, result)  # nobody asks for its body, and it keeps nobody off
        self.placing.place_result(id_, author, result)

    def _find(self, batch: bytes, word: Word) -> None:
        """A finding on a result. Where nothing of its author failed, no other result of his is looked at."""
        author, _ = self.results.get(batch, (b"", None))
        in_doubt = word.verdict == "bad" or self.verdicts.doubt(author) is not None
        touched = self._by_author.get(author, {}) if in_doubt else {batch: None}
        before = {id_: self.counting.ruled(id_, author) for id_ in touched}
        self.verdicts.add(batch, word)
        for one in (one for one in self.verdicts.words(batch) if one.author == word.author):
            self.placing.place_finding(batch, one)
        if self.verdicts.outcome(batch).passed:
            self.members.settled(author, batch)
        self._recount(id_ for id_, was in before.items() if was[:2] != self.counting.ruled(id_, author)[:2])

    def admit(self, grants: Sequence[tuple[Envelope, Grant]]) -> Admittance:
        """Take in valid grants that are about to be durable, and say what is to be written with them. Those that stay
        are in the set after `add`; those that have to go are out of it at once."""
        gone: list[bytes] = []
        before: dict[bytes, Footing | None] = {}
        for envelope, grant in grants:
            before.setdefault(grant.key, self.members.footing(grant.key))
            out = self.members.take(envelope, grant).displaced
            if out is not None:
                before.setdefault(out.author, None)
                gone.append(out.id)
                self.placing.take_out(out.time, out.id)
        changed = self._reseat(before)
        new = {envelope.id for envelope, _ in grants}
        return Admittance(
            kept=[envelope for envelope, _ in grants if envelope.id in self.members.kept],
            gone=[id_ for id_ in gone if id_ not in new],
            standing={id_: self.ruled(id_, self.results[id_][0]) for id_ in changed},
        )

    def announce(self, id_: bytes, author: bytes, result: Result, now: float) -> None:
        """A valid header came in; its body is not here yet, so it is no progress of its author's: it may be a lie."""
        self.works[result.tid].announce(id_, author, result, now)
        self.members.saw(author, id_, result)
        if id_ not in self.seals.by_id:
            self.rations.take_result(author, now)

    def complete(self, id_: bytes, author: bytes, result: Result, errors: int) -> None:
        """The body of a header is held and checked: its items have rows. `errors` are those whose row is an error."""
        held = Held(author, result.offset, result.items, errors)
        self.works[result.tid].rows.hold(result.chunk, id_, held, self.counting)
        self.forget(id_, result)

    def forget(self, id_: bytes, result: Result) -> None:
        """A header's body came, or proved false: it holds nobody off any more."""
        self.works[result.tid].forget(id_, result.chunk)

    def seal(self, checkpoint: Checkpoint, seal: Seal, ids: Iterable[bytes]) -> None:
        """The next checkpoint, with the ids that it seals."""
        sealed = list(ids)
        others = [id_ for id_ in sealed if id_ in self.results and not self.counts(id_, self.results[id_][0])]
        late = {word.author for word in map(self.verdicts.word, sealed) if word and not self.verdicts.is_ruling(word)}
        joined = {grant.author for grant, _ in self.members.kept.named(sealed)}
        before = self.members.footings(joined | self.seals.moved_by(seal))
        self.seals.take(seal, sealed)
        self.last_checkpoint, self.trust.sealed_at = checkpoint, checkpoint.time
        self.members.kept.seal(seal.number, sealed)
        self._reseat(before)
        for author in joined:
            self.placing.place_grants(author)
        for id_ in sealed:
            self.placing.seal(id_)
            self.members.settled(self.results[id_][0] if id_ in self.results else b"", id_)
        for id_ in others:
            self.placing.place_result(id_, *self.results[id_])
        self._recount(others)
        if late:
            self._rejudge(late)

    # what the set says

    @property
    def grants(self) -> Mapping[bytes, Grant]:
        """The newest grant of each author, for its name; whether it stands is another question."""
        return self.members.names

    def name_of(self, author: bytes) -> str:
        """What the author wants to be called, by its newest grant or profile."""
        said = [one for one in (self.grants.get(author), self.profiles.get(author)) if one is not None]
        return max(((one.time, one.name) for one in said), default=(0, ""))[1]

    def holds(self, id_: bytes) -> bool:
        """Whether a statement is in the set, or was until a ban took it out."""
        said = self.rulings.has(id_) or self.verdicts.has(id_)
        return said or id_ in self.index or id_ in self.members.kept or id_ in self.results

    def replaced(self, record: Any, id_: bytes, author: bytes) -> bytes | None:
        """The id of the statement whose slot this one takes, if it does."""
        return self.placing.replaced(record, id_, author)

    def is_stale(self, record: Any, id_: bytes, author: bytes) -> bool:
        """Whether a better statement holds this one's slot."""
        return self.placing.is_stale(record, id_, author)

    def unsealed(self) -> Iterator[tuple[int, bytes]]:
        """(time, id) of the statements that a checkpoint can seal and none has, ascending."""
        return self.placing.unsealed()

    def results_of(self, author: bytes) -> Iterable[bytes]:
        """Ids of the author's results, also of those that do not count."""
        return self._by_author.get(author, ())

    def banned_by(self, ban: Ban) -> set[bytes]:
        """The authors that a ban is about: the one it names, or all who joined with the ticket that it names."""
        return {ban.author} | {grant.author for grant, _ in self.members.kept.by_ticket(ban.author)}

    def counts(self, id_: bytes, author: bytes, result: Result | None = None) -> bool:
        """Whether something of a result counts, by all rulings, grants, checks and seals. `author` is empty when nobody
        knows it yet; `result` may be left out when it is in the set."""
        return self.counting.counted(id_, author, result) != 0

    def counted(self, id_: bytes, author: bytes) -> int:
        """The items of a result that count, as bits from its offset on."""
        return self.counting.counted(id_, author)

    def ruled(self, id_: bytes, author: bytes, result: Result | None = None) -> Ruled:
        """All that is made of a result."""
        return self.counting.ruled(id_, author, result)

    def confirmed(self, id_: bytes) -> int:
        """Items of a result that verifiers found to be right, as bits from its offset on."""
        return self.verdicts.outcome(id_).passed

    def is_wanted(self, result: Result) -> bool:
        """Whether a result's body may be kept: it covers nothing that was redacted."""
        return not result.items & self._redacted.get(result.chunk, 0)

    def condemned(self, redact: Redact) -> list[bytes]:
        """Ids of results whose bodies a redaction drops."""
        batches = (batch for work in self.works.values() for batch in work.rows.batches(redact.chunk).items())
        return [id_ for id_, held in batches if held.items & redact.items]

    def held(self, id_: bytes) -> Held | None:
        """A result whose body is here and checked, or was."""
        _, result = self.results.get(id_, (b"", None))
        return self.works[result.tid].rows.held(result.chunk, id_) if result is not None else None

    # what is left to do

    @property
    def open_works(self) -> list[Work]:
        """The work on the stages that are worked on, in their order: none while the project is paused, and none while
        two manifests of this version contradict each other."""
        plan, forked = self.project.plan, ("manifest", self.project.manifest.version) in self.forks
        stages = () if plan.paused is True or forked else plan.stages
        return [self.work_of(stage) for stage in stages if stage.paused is not True]

    def work_left(self, me: bytes) -> bool:
        """Whether some item still needs the work of `me`."""
        return any(work.left(me) for work in self.open_works)

    def by_author_total(self, author: bytes) -> int:
        """Number of rows by `author` here, in all tasks."""
        rows = (row for work in self.works.values() for row in work.rows.by_author.items())
        return sum(items.bit_count() for (who, _), items in rows if who == author)

    @property
    def finished(self) -> bool:
        """Whether every stage has, for every item, a row here, or needs none."""
        return all(self.work_of(stage).rows.complete for stage in self.project.stages)

    @property
    def items_done(self) -> int:
        """Number of items with a row here, in all tasks."""
        return sum(work.rows.total for work in self.works.values())

    # how rulings reach back

    def _apply(self, ruling: Ban | Void | Redact) -> None:
        match ruling:
            case Void():
                self._recount(ruling.batches)
            case Ban():
                for grant, _ in list(self.members.kept.by_ticket(ruling.author)):
                    self.placing.place_grants(grant.author)
                about = self.banned_by(ruling)
                for author in about:
                    self._place_all(author)
                if any(self.verdicts.speaks(author) for author in about):
                    self._rejudge(about)
            case Redact():
                condemned = self.condemned(ruling)
                self._redacted[ruling.chunk] = self._redacted.get(ruling.chunk, 0) | ruling.items
                for id_ in condemned:
                    self.works[self.results[id_][1].tid].rows.drop(id_, self.counting)
                for work in self.works.values():
                    work.close(ruling.chunk, ruling.items, self.results)

    def _reseat(self, before: Mapping[bytes, Footing | None]) -> list[bytes]:
        """What hangs on who is admitted, for the authors who stood so `before` and do not now. Returns the ids of their
        results."""
        changed = [author for author, was in before.items() if was != self.members.footing(author)]
        for author in changed:
            self._place_all(author)
            self.placing.place_findings_of(author)
        return [id_ for author in changed for id_ in self._by_author.get(author, ())]

    def _place_all(self, author: bytes) -> None:
        """The author's results and profile."""
        ids = self._by_author.get(author, {})
        for id_ in ids:
            self.placing.place_result(id_, *self.results[id_])
        self._recount(ids)
        self.placing.place_profile(author)

    def _recount(self, ids: Iterable[bytes]) -> None:
        """These results may count now and did not, or the other way round: each of their chunks is counted anew."""
        held = (self.results[id_][1] for id_ in ids if id_ in self.results and self.held(id_) is not None)
        for tid, chunk in {(result.tid, result.chunk) for result in held}:
            self.works[tid].rows.recount(chunk, self.counting)
