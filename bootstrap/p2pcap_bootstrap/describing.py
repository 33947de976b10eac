"""Signed things in words: root, manifest, plan, item list, and every statement that volunteers and maintainers sign.

Always holds: a description says of a signature only what was checked, and holds no secret.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.envelope import LIMITS, Envelope, open_envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.identity import peer_id_of
from p2pcap.ledger.checkpoint import Checkpoint, Stamp
from p2pcap.ledger.fork import Fork
from p2pcap.ledger.grants import is_wished
from p2pcap.ledger.records import Claim, Grant, Profile, Result
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.project import roots
from p2pcap.project.chunks import open_counts, row_in
from p2pcap.project.items import ItemList
from p2pcap.project.records import PAGE, Manifest, Plan, Role, Root
from p2pcap.project.roots import Chain, keys_of
from p2pcap.store.schema import MAX_TIME
from p2pcap_bootstrap.cosigning import differences

SHOWN = 5
"""Names of a long list that are shown."""


class Report(msgspec.Struct, frozen=True):
    """What a thing is. `holds`: whether its signatures and hashes do, None where it has none or they cannot be checked
    from it alone. `facts` are labelled, in order; `faults` say what is wrong with it."""

    kind: str
    holds: bool | None
    facts: dict[str, str]
    faults: tuple[str, ...] = ()


class Trust(NamedTuple):
    """A project that what is looked at may belong to: its hash and the root in force."""

    project: bytes
    root: Root

    def role(self, key: bytes) -> str:
        """What the root says of a key."""
        roles = self.root.roles
        named = {
            "a root key": roles.root,
            "a coordinator": roles.coordinator,
            "a checkpoint key": roles.checkpoint,
            "a verifier": roles.verifier,
        }
        held = [text for text, role in named.items() if isinstance(role, Role) and key in keys_of(self.root, role)]
        if held:
            return " and ".join(held)
        former = () if self.root.former is UNSET else self.root.former
        return "a former key" if key in {one.key for one in former} else ""


MAINTAINERS = frozenset({"manifest", "ban", "void", "redact", "checkpoint", "stamp", "verdict"})
"""Types that only keys of the root may sign."""


def moment(seconds: int) -> str:
    """A time in unix seconds, for people."""
    return f"{datetime.fromtimestamp(min(seconds, MAX_TIME), UTC):%Y-%m-%d %H:%M:%S} UTC"


def until(seconds: int, now: float) -> str:
    """When something expires or did."""
    days = int(abs(seconds - now) // 86_400)
    return f"{moment(seconds)} ({f'in {days} days' if seconds >= now else f'{days} days ago: IT HAS EXPIRED'})"


# statements


def statement(envelope: Envelope, now: float, trust: Trust | None = None) -> Report:
    """Any signed statement."""
    try:
        record = decode(envelope.payload, RECORDS[envelope.kind][0], LIMITS[envelope.kind])
    except CodecError as error:
        return Report(envelope.kind, False, {"signed by": peer_id_of(envelope.author)}, (str(error),))
    faults = [] if envelope.holds() else ["Its signature is not its author's: it was changed, or damaged."]
    facts = RECORDS[envelope.kind][1](record, now)
    faults += _role_faults(envelope, record, trust)
    signer = peer_id_of(envelope.author)
    if trust is not None and (role := trust.role(envelope.author)):
        signer += f", {role} of the project beside it"
    about = {"signed by": signer, "id": envelope.id.hex()}
    if isinstance(record, Root):
        about["hash"] = envelope.payload_hash.hex()
    else:
        about["project"] = f"{record.m.hex()}…"
    return Report(envelope.kind, not faults, facts | about, tuple(faults))


def _role_faults(envelope: Envelope, record: Any, trust: Trust | None) -> list[str]:
    faults = []
    if isinstance(record, Grant) and record.invite is not UNSET:
        if not is_wished(record):
            faults.append("The admitted key did not ask for it.")
        if record.invite.key != envelope.author:
            faults.append("It is not signed by the ticket's key that it names.")
    if isinstance(record, Fork):
        faults += _fork_faults(record)
    if trust is not None and envelope.kind in MAINTAINERS:
        if record.m != trust.project[:8]:
            faults.append("It is of another project than the one beside it.")
        elif not trust.role(envelope.author):
            faults.append("The project beside it does not know the key that signed it.")
    return faults


def _fork_faults(fork: Fork) -> list[str]:
    try:
        one, other = open_envelope(fork.one), open_envelope(fork.other)
    except CodecError:
        return ["The two statements in it cannot be read."]
    proves = one.kind == other.kind == fork.kind and one.id != other.id and one.holds() and other.holds()
    return [] if proves else ["The two statements in it do not contradict each other: it proves nothing."]


def _root(root: Root, now: float) -> dict[str, str]:
    facts = {"what": f"root {root.version} of the project {root.name}", "expires": until(root.expires, now)}
    facts["made"] = moment(root.created)
    for name in ("root", "coordinator", "checkpoint", "verifier"):
        role = getattr(root.roles, name)
        if role is not UNSET:
            facts[f"{name} keys"] = f"{role.threshold} of {_peers(keys_of(root, role))}"
    if root.former is not UNSET:
        facts["former keys"] = "; ".join(
            f"{peer_id_of(one.key)}, counts up to checkpoint {one.checkpoint}" for one in root.former
        )
    return facts


def _manifest(manifest: Manifest, now: float) -> dict[str, str]:
    root = 1 if manifest.roots is UNSET else manifest.roots.version
    return {
        "what": f"manifest {manifest.version}, under root {root}",
        "made": moment(manifest.created),
        "expires": until(manifest.expires, now),
        "plan": f"{manifest.plan.hex()}, {manifest.length} bytes",
    }


def _grant(grant: Grant, now: float) -> dict[str, str]:
    facts = {"what": f"admits {peer_id_of(grant.key)} as {grant.name or 'nobody in particular'}"}
    if grant.invite is not UNSET:
        invite = grant.invite
        facts["invitation"] = (
            f"by {peer_id_of(invite.signer)}, for {invite.most} authors, until {moment(invite.expires)}"
        )
    elif grant.puzzle is not UNSET:
        facts["invitation"] = "none: it solved the puzzle of an open project"
    else:
        facts["invitation"] = "none: whoever signed it admits it"
    return facts | {"made": moment(grant.time)}


def _claim(claim: Claim, now: float) -> dict[str, str]:
    slices = sum(int.from_bytes(one.slices, "little").bit_count() for one in claim.chunks)
    chunks = _some(str(one.chunk) for one in claim.chunks)
    return {"what": f"claims {slices} slices in chunks {chunks or 'none'}", "made": moment(claim.time)}


def _result(result: Result, now: float) -> dict[str, str]:
    images = int.from_bytes(result.mask, "little").bit_count()
    span = f"{result.offset} to {result.offset + result.n - 1}"
    return {
        "what": f"captions of {images} images, items {span} of chunk {result.chunk}, {result.tokens} tokens",
        "task": result.tid.hex(),
        "engine": result.engine.hex(),
        "body": f"{result.length} bytes, Merkle root {result.root.hex()}; whether it fits only the body shows",
        "made": moment(result.time),
    }


def _profile(profile: Profile, now: float) -> dict[str, str]:
    return {
        "what": f"its author is called {profile.name!r}",
        "link": profile.link or "none",
        "made": moment(profile.time),
    }


def _finding(finding: Finding, now: float) -> dict[str, str]:
    images = int.from_bytes(finding.items, "little").bit_count()
    said = f"{finding.verdict}, by {finding.method}, on {images} images of result {finding.batch.hex()}"
    return {"what": said, "made": moment(finding.time)}


def _ban(ban: Ban, now: float) -> dict[str, str]:
    scopes = {
        "none": "lifts the ban on",
        "all": "bans, with all results,",
        "unsealed": f"bans, with what no checkpoint up to {ban.after} seals,",
    }
    facts = {"what": f"{scopes[ban.scope]} {peer_id_of(ban.author)} (version {ban.version})"}
    return facts | _why(ban)


def _void(void: Void, now: float) -> dict[str, str]:
    return {"what": f"voids {len(void.batches)} results", "results": " ".join(map(bytes.hex, void.batches))} | _why(
        void
    )


def _redact(redact: Redact, now: float) -> dict[str, str]:
    items = [item for item in range(redact.items.bit_length()) if redact.items >> item & 1]
    named = _some((f"{redact.chunk}:{item}" for item in items), 64)
    return {"what": f"closes {len(items)} images for good", "images": named} | _why(redact)


def _why(ruling: Ban | Void | Redact) -> dict[str, str]:
    facts = {"reason": ruling.reason or "none given", "made": moment(ruling.time)}
    if not isinstance(ruling, Redact) and ruling.evidence:
        facts["evidence"] = " ".join(map(bytes.hex, ruling.evidence))
    return facts


def _checkpoint(checkpoint: Checkpoint, now: float) -> dict[str, str]:
    newly = sum(segment.count for segment in checkpoint.segments)
    return {
        "what": f"checkpoint {checkpoint.number} seals {newly} statements",
        "in all": f"{checkpoint.statements} statements, {checkpoint.captions} captions",
        "before": checkpoint.prev.hex() if any(checkpoint.prev) else "none: it is the first",
        "made": moment(checkpoint.time),
    }


def _stamp(stamp: Stamp, now: float) -> dict[str, str]:
    newest = f"root {stamp.root}, manifest {stamp.manifest}, checkpoint {stamp.checkpoint}"
    return {"what": f"the newest are {newest}", "made": moment(stamp.time), "expires": until(stamp.expires, now)}


def _fork(fork: Fork, now: float) -> dict[str, str]:
    return {
        "what": f"proof that a key signed two different statements as {fork.kind} {fork.number}",
        "first": _signer(fork.one),
        "second": _signer(fork.other),
        "made": moment(fork.time),
    }


def _signer(data: bytes) -> str:
    try:
        envelope = open_envelope(data)
    except CodecError:
        return "cannot be read"
    return f"{envelope.id.hex()} by {peer_id_of(envelope.author)}"


RECORDS: Mapping[str, tuple[type[Any], Callable[[Any, float], dict[str, str]]]] = {
    "root": (Root, _root),
    "manifest": (Manifest, _manifest),
    "grant": (Grant, _grant),
    "claim": (Claim, _claim),
    "result": (Result, _result),
    "profile": (Profile, _profile),
    "verdict": (Finding, _finding),
    "ban": (Ban, _ban),
    "void": (Void, _void),
    "redact": (Redact, _redact),
    "checkpoint": (Checkpoint, _checkpoint),
    "stamp": (Stamp, _stamp),
    "fork": (Fork, _fork),
}


# roots, plans, lists


def chain(versions: Chain, now: float) -> Report:
    """All versions of a root, and what each changed."""
    facts, opened, faults = dict[str, str](), list[Root](), list[str]()
    try:
        opened.append(roots.open_first(versions[0][0], versions[0][0].payload_hash))
        for envelopes in versions[1:]:
            opened.append(roots.follow(opened[-1], envelopes))
        roots.last_of(versions, versions[0][0].payload_hash)
    except UntrustedError as error:
        faults.append(str(error))
    facts["what"] = f"{len(versions)} versions of a root" + (f" of the project {opened[0].name}" if opened else "")
    facts["project"] = versions[0][0].payload_hash.hex()
    for before, after in pairwise([None, *opened]):
        assert after is not None
        facts[f"root {after.version}"] = "; ".join(_changes(before, after, now))
    return Report("chain of roots", not faults, facts, tuple(faults))


def _changes(before: Root | None, after: Root, now: float) -> list[str]:
    if before is None:
        return [f"{label}: {text}" for label, text in _root(after, now).items() if label.endswith("keys")]
    return differences(before, after)


def plan(found: Plan) -> dict[str, str]:
    """What a plan says."""
    counts = open_counts(found.chunks)
    facts = {"what": f"plan of the project {found.title}: {sum(counts)} images", "chunks": str(len(counts))}
    for stage in found.stages:
        prompts = _some(prompt.name for prompt in stage.task.prompts)
        paused = ", paused" if stage.paused is True else ""
        facts[f"stage {stage.name}"] = (
            f"{stage.task.model.name}, prompts {prompts}, task {stage.task.tid.hex()}{paused}"
        )
    if found.paused is True:
        facts["paused"] = "nobody works on it"
    if found.deadline is not UNSET:
        facts["deadline"] = moment(found.deadline)
    if found.verifiers is not UNSET:
        facts["verifiers"] = _some(peer_id_of(key) for key in found.verifiers)
    facts["license"] = found.license or "not said"
    return facts


def page(data: bytes) -> dict[str, str]:
    """What a page of a chunk table says."""
    first = row_in(data, 0, 0)
    facts = {"what": f"page of a chunk table: item lists of {PAGE} chunks"}
    return facts | {"first": f"{first.items.hex()}, {first.length} bytes"}


def item_list(found: ItemList) -> dict[str, str]:
    """What an item list says."""
    facts = {"what": f"item list of a chunk: {len(found.items)} images", "first": _some(i.key for i in found.items)}
    facts["known by hash"] = f"{sum(bool(item.hash) for item in found.items)} of {len(found.items)}"
    if found.file is not None:
        facts["in the file"] = found.file.file
    return facts


def _peers(keys: Iterable[bytes]) -> str:
    return _some(map(peer_id_of, sorted(keys)), 16)


def _some(names: Iterable[str], shown: int = SHOWN) -> str:
    """The first names of a list, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
