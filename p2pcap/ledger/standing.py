"""What a ruling, a checkpoint or a newer manifest will change, before it is durable: the store is told in one go.

For each result whose standing changes: whether it counts then, and which of its items a verifier found right, as bits
from its offset on. Pure: the ledger is only looked at.
"""

from collections.abc import Iterable, Mapping

from p2pcap.ledger.rulings import Ban, Finding, Ruling, Rulings, Void
from p2pcap.ledger.state import Ledger
from p2pcap.project.opened import Project

Changes = dict[bytes, tuple[bool, int]]


def after_ruling(ledger: Ledger, id_: bytes, author: bytes, ruling: Ruling) -> Changes:
    """What a ruling by `author` changes, also for results that are not known here."""
    return _changes(ledger, ledger.rulings.after(id_, author, ruling), _touched(ledger, ruling), {})


def after_seal(ledger: Ledger, number: int, ids: Iterable[bytes]) -> Changes:
    """What checkpoint `number` changes: results that count once they, or their authors' grants, are sealed."""
    ids, members = list(ids), ledger.members
    banned = [id_ for id_ in ids if id_ in ledger.results and ledger.rulings.ban(ledger.results[id_][0]) is not None]
    late = {grant.author for grant, _ in members.kept.named(ids) if not members.is_admitted(grant.author)}
    waiting = [id_ for author in late for id_ in ledger.results_of(author)]
    return _changes(ledger, ledger.rulings, [*banned, *waiting], dict.fromkeys(ids, number))


def after_adoption(ledger: Ledger, project: Project) -> Changes:
    """What a newer version of the project changes: results of authors whom it admits no more, or again."""
    if project.plan.policy.admits == ledger.project.plan.policy.admits:
        return {}
    members = ledger.members
    moved = [
        author
        for author in members.names
        if members.is_admitted(author) != members.is_admitted(author, project=project)
    ]
    return {
        id_: (ledger.rulings.counts(id_, author, ledger.seals.by_id.get(id_)) and in_now, ledger.confirmed(id_))
        for author in moved
        for in_now in (members.is_admitted(author, project=project),)
        for id_ in ledger.results_of(author)
    }


def _touched(ledger: Ledger, ruling: Ruling) -> Iterable[bytes]:
    match ruling:
        case Void():
            return ruling.batches
        case Finding():
            return (ruling.batch,)
        case Ban():
            return [id_ for author in ledger.banned_by(ruling) for id_ in ledger.results_of(author)]
    return ()


def _changes(ledger: Ledger, trial: Rulings, ids: Iterable[bytes], sealed: Mapping[bytes, int]) -> Changes:
    changes = {}
    for id_ in ids:
        author = ledger.results[id_][0] if id_ in ledger.results else b""
        counts = trial.counts(id_, author, ledger.seals.by_id.get(id_, sealed.get(id_)))
        counts = counts and (not author or ledger.members.is_admitted(author, trial, sealed))
        after = counts, trial.confirmed(id_)
        if after != (ledger.counts(id_, author), ledger.confirmed(id_)):
            changes[id_] = after
    return changes
