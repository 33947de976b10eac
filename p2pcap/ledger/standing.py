"""What a ruling, a checkpoint or a newer manifest will change, before it is durable: the store is told in one go.

For each result of which something else holds then: what is made of it. Pure: the ledger is only looked at.
"""

from collections.abc import Iterable

from p2pcap.ledger.checkpoint import Seal
from p2pcap.ledger.checks import Ruled
from p2pcap.ledger.counting import NOW, Supposed
from p2pcap.ledger.rulings import Ban, Finding, Ruling, Void
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.verdicts import word_of
from p2pcap.project.opened import Project

Changes = dict[bytes, Ruled]


def after_ruling(ledger: Ledger, id_: bytes, author: bytes, ruling: Ruling) -> Changes:
    """What a ruling by `author` changes, also for results that are not known here."""
    match ruling:
        case Finding():
            return _after_finding(ledger, id_, author, ruling)
        case Void():
            return _changes(ledger, ruling.batches, Supposed(ledger.rulings.after(id_, ruling)))
        case Ban():
            return _after_ban(ledger, id_, ruling)
    return {}


def _after_finding(ledger: Ledger, id_: bytes, author: bytes, finding: Finding) -> Changes:
    trial = ledger.verdicts.trial()
    moved = trial.add(finding.batch, word_of(id_, author, finding))
    whose, _ = ledger.results.get(finding.batch, (b"", None))
    ids = ledger.results_of(whose) if moved else (finding.batch,)
    return _changes(ledger, ids, Supposed(verdicts=trial))


def _after_ban(ledger: Ledger, id_: bytes, ban: Ban) -> Changes:
    rulings, about = ledger.rulings.after(id_, ban), ledger.banned_by(ban)
    results = {result for author in about for result in ledger.results_of(author)}
    if not any(ledger.verdicts.speaks(author) for author in about):
        return _changes(ledger, results, Supposed(rulings))
    verdicts = ledger.verdicts.under(ledger.counting.rules(Supposed(rulings)))
    return _changes(ledger, results | ledger.verdicts.changed(verdicts), Supposed(rulings, verdicts))


def after_seal(ledger: Ledger, seal: Seal, ids: Iterable[bytes]) -> Changes:
    """What the next checkpoint changes, which seals `ids`: results that count once they, or their authors' grants, or
    the findings on them, are sealed, and those of authors who are on probation no more."""
    ids, members = list(ids), ledger.members
    then = Supposed(sealed=dict.fromkeys(ids, seal.number), tiers=seal.tiers)
    words = [word for id_ in ids if (word := ledger.verdicts.word(id_)) is not None]
    touched = {id_ for id_ in ids if id_ in ledger.results}
    if not all(map(ledger.verdicts.is_ruling, words)):
        verdicts = ledger.verdicts.under(ledger.counting.rules(then))
        touched |= ledger.verdicts.changed(verdicts)
        then = Supposed(verdicts=verdicts, sealed=then.sealed, tiers=then.tiers)
    authors = {grant.author for grant, _ in members.kept.named(ids)} | ledger.seals.moved_by(seal)
    for author in authors:
        was = members.footing(author)
        if was != (
            members.is_admitted(author, sealed=then.sealed),
            members.is_on_probation(author, sealed=then.sealed, tiers=then.tiers),
        ):
            touched.update(ledger.results_of(author))
    return _changes(ledger, touched, then)


def after_adoption(ledger: Ledger, project: Project) -> Changes:
    """What a newer version of the project changes: results of authors whom it admits no more, or again; whose words are
    rulings; and which stages are audited, as that concerns those on probation."""
    old = ledger.project
    asked = [(one.plan.policy.admits, one.verifiers, one.audits.keys()) for one in (old, project)]
    if asked[0] == asked[1]:
        return {}
    then = Supposed(project=project)
    if old.verifiers != project.verifiers:
        then = Supposed(project=project, verdicts=ledger.verdicts.under(ledger.counting.rules(then)))
    return _changes(ledger, ledger.results, then)


def _changes(ledger: Ledger, ids: Iterable[bytes], then: Supposed) -> Changes:
    changes = {}
    for id_ in ids:
        author, result = ledger.results.get(id_, (b"", None))
        after = ledger.counting.ruled(id_, author, result, then)
        if after != ledger.counting.ruled(id_, author, result, NOW):
            changes[id_] = after
    return changes
