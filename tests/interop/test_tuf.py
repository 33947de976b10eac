"""The rules of TUF, in two implementations: python-tuf and p2pcap accept and refuse the same histories of a project.

A project's roots become TUF's roots with the same keys, thresholds and times; its coordinator becomes the timestamp
role, and its manifests become timestamps. Three rules are p2pcap's own, and the histories drawn here do not depend on
them: a root names the one before it, a manifest names the root it goes with, and of two manifests the one with the
newer root wins even when both are by one key (so what a node holds does not depend on what it saw before).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, structs
from nacl.signing import SigningKey
from securesystemslib.signer import Key, Signature, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Timestamp
from tuf.api.metadata import Role as TufRole
from tuf.api.metadata import Root as TufRoot
from tuf.api.serialization.json import CanonicalJSONSerializer
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from p2pcap.envelope import Envelope, seal
from p2pcap.errors import UntrustedError
from p2pcap.identity import Identity
from p2pcap.project.opened import Project, check_current, open_project
from p2pcap.project.records import Manifest, Root, RootChain
from p2pcap.project.roots import follow, keys_of, root_hash, write_chain
from tests.chains import KEYS, after, forged, root_of, signed
from tests.makers import NOW, make_project

HOLDERS, HELMS = KEYS[:5], KEYS[10:30]
DAY = 86_400
PLAN = make_project((64,)).project.plan_data


@dataclass(frozen=True)
class Signing:
    """Who signs a root: indexes of HOLDERS. `false` of them sign something else."""

    signers: tuple[int, ...]
    false: frozenset[int] = frozenset()

    def envelopes(self, root: Root) -> list[Envelope]:
        envelopes = signed(root, *(HOLDERS[index] for index in self.signers))
        return [
            forged(envelope) if index in self.false else envelope
            for index, envelope in zip(self.signers, envelopes, strict=True)
        ]


# what python-tuf reads


def instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def key_of(public: bytes) -> SSlibKey:
    return SSlibKey(public.hex(), "ed25519", "ed25519", {"public": public.hex()})


def tuf_root(root: Root) -> TufRoot:
    publics: dict[str, Key] = {public.hex(): key_of(public) for public in root.keys}
    helms = [public.hex() for public in keys_of(root, root.roles.coordinator)]
    top = TufRole([public.hex() for public in keys_of(root, root.roles.root)], root.roles.root.threshold)
    roles = {"root": top, "timestamp": TufRole(helms, 1), "snapshot": TufRole(helms, 1), "targets": TufRole(helms, 1)}
    return TufRoot(root.version, None, instant(root.expires), publics, roles, False)


def tuf_data(signed_part: TufRoot | Timestamp, signers: Sequence[Identity], false: Sequence[bool]) -> bytes:
    data = CanonicalJSONSerializer().serialize(signed_part)
    made = {
        signer.public.hex(): Signature(
            signer.public.hex(), (bytes(64) if wrong else SigningKey(signer.seed).sign(data).signature).hex()
        )
        for signer, wrong in zip(signers, false, strict=True)
    }
    return Metadata[Any](signed_part, made).to_bytes()


def tuf_version(root: Root, signing: Signing) -> bytes:
    signers = [HOLDERS[index] for index in signing.signers]
    return tuf_data(tuf_root(root), signers, [index in signing.false for index in signing.signers])


def tuf_manifest(version: int, expires: int, signer: Identity) -> bytes:
    return tuf_data(Timestamp(version, None, instant(expires), MetaFile(1)), [signer], [False])


# roots


holders = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)
signings = st.builds(Signing, holders.map(tuple), st.frozensets(st.integers(0, 4), max_size=1))


@st.composite
def next_roots(draw: st.DrawFn) -> tuple[list[int], int, int, int, Signing]:
    """Root keys and threshold of a version, by how much its number goes up, its expiry in days, and who signs."""
    keys = draw(holders)
    step = draw(st.sampled_from([1, 1, 1, 1, 1, 0, 2]))
    return keys, draw(st.integers(1, len(keys))), step, draw(st.sampled_from([-9, 9])), draw(signings)


@settings(max_examples=250)
@given(holders, st.data())
def test_the_same_chains_of_roots_hold(first: list[int], data: st.DataObject) -> None:
    root = root_of([HOLDERS[index] for index in first], data.draw(st.integers(1, len(first))))
    trusted = TrustedMetadataSet(tuf_version(root, Signing(tuple(first))), EnvelopeType.METADATA)
    for keys, threshold, step, days, signing in data.draw(st.lists(next_roots(), min_size=1, max_size=5)):
        new = after(
            root, [HOLDERS[index] for index in keys], threshold, version=root.version + step, expires=NOW + days * DAY
        )
        new = structs.replace(new, before=UNSET) if new.version == 1 else new
        ours, theirs = our_step(root, new, signing), tuf_step(trusted, new, signing)
        assert ours == theirs
        root = new if ours else root


def our_step(root: Root, new: Root, signing: Signing) -> bool:
    try:
        return follow(root, signing.envelopes(new)) == new
    except UntrustedError:
        return False


def tuf_step(trusted: TrustedMetadataSet, new: Root, signing: Signing) -> bool:
    try:
        trusted.update_root(tuf_version(new, signing))
    except RepositoryError:
        return False
    return True


# manifests


@dataclass
class Repository:
    """What a maintainer, or a thief with a coordinator's key, has published: the same in both forms."""

    roots: list[Root]
    signings: list[Signing]
    helm: int = 0
    floor: int = 1
    highest: int = 0
    published: list[tuple[list[Root], Envelope, bytes, bytes]] = field(default_factory=list)

    def rotate(self, new: Root, signing: Signing, helm: int) -> None:
        self.floor = self.highest + 1 if helm == self.helm else 1
        self.highest = self.highest if helm == self.helm else 0
        self.helm = helm
        self.roots.append(new)
        self.signings.append(signing)

    def publish(self, version: int, expires: int, signer: Identity) -> None:
        self.highest = max(self.highest, version)
        chain = [signing.envelopes(root) for root, signing in zip(self.roots, self.signings, strict=True)]
        blob = write_chain(chain)
        roots = RootChain(len(chain), hashlib.sha256(blob).digest(), len(blob))
        hash_ = hashlib.sha256(PLAN).digest()
        record = Manifest(root_hash(self.roots[0])[:8], version, NOW, expires, hash_, len(PLAN), roots)
        theirs = tuf_manifest(version, expires, signer)
        self.published.append((list(self.roots), seal(signer, "manifest", record), blob, theirs))


@dataclass
class Ours:
    """A node: what it has adopted."""

    held: Project | None = None

    def take(self, repository: Repository, number: int) -> bool:
        _, manifest, blob, _ = repository.published[number]
        first = repository.signings[0].envelopes(repository.roots[0])[0]
        try:
            project = open_project(first, manifest, PLAN, root_hash(repository.roots[0]), blob)
            check_current(project, NOW)
        except UntrustedError:
            return False
        newer = self.held is None or project.version > self.held.version
        self.held = project if newer else self.held
        return newer


@dataclass
class Theirs:
    """A client of TUF between two refreshes: the roots and the timestamp on its disk (tuf.ngclient.Updater)."""

    roots: list[bytes]
    timestamp: bytes | None = None

    def take(self, repository: Repository, number: int) -> bool:
        trusted = TrustedMetadataSet(self.roots[0], EnvelopeType.METADATA)
        trusted.reference_time = instant(NOW)
        for data in self.roots[1:]:
            trusted.update_root(data)
        try:
            for root, signing in list(zip(repository.roots, repository.signings, strict=True))[len(self.roots) :]:
                trusted.update_root(tuf_version(root, signing))
                self.roots.append(tuf_version(root, signing))
            self._load_held(trusted)
            trusted.update_timestamp(repository.published[number][3])
        except RepositoryError:
            return False
        self.timestamp = repository.published[number][3]
        return True

    def _load_held(self, trusted: TrustedMetadataSet) -> None:
        """What was held and does not verify under the new keys is forgotten (TUF 5.3.11, fast-forward recovery)."""
        if self.timestamp is not None:
            try:
                trusted.update_timestamp(self.timestamp)
            except RepositoryError:
                return


@settings(max_examples=250)
@given(st.data())
def test_the_same_manifests_are_followed(data: st.DataObject) -> None:
    repository = Repository([root_of([HOLDERS[0]], helm=HELMS[0])], [Signing((0,))])
    ours, theirs = Ours(), Theirs([tuf_version(repository.roots[0], Signing((0,)))])
    for _ in range(data.draw(st.integers(1, 8))):
        event = data.draw(st.sampled_from(["publish", "publish", "replay", "rotate"]))
        if event == "replay" and repository.published:
            number = data.draw(st.integers(0, len(repository.published) - 1))
        else:
            if event == "rotate":
                rotate(repository, data)
            publish(repository, data)
            number = len(repository.published) - 1
        accepted = ours.take(repository, number)
        assert accepted == theirs.take(repository, number)
        if repository.roots[-1].version > len(theirs.roots):  # nobody takes it: the maintainer makes another one
            repository.roots.pop()
            repository.signings.pop()
            return


def rotate(repository: Repository, data: st.DataObject) -> None:
    last, version = repository.roots[-1], len(repository.roots)
    holder = (version - 1) % 2
    signing = data.draw(st.sampled_from([Signing((0, 1)), Signing((0, 1)), Signing((holder,)), Signing((1 - holder,))]))
    helm = repository.helm + data.draw(st.integers(0, 1))
    expires = NOW + data.draw(st.sampled_from([9, 9, 9, -9])) * DAY
    new = after(last, [HOLDERS[version % 2]], helm=HELMS[helm], expires=expires)
    repository.rotate(new, signing, helm)


def publish(repository: Repository, data: st.DataObject) -> None:
    """A manifest of the newest root: by its coordinator, by the one before, or by a root key."""
    signers = [HELMS[repository.helm]] * 4 + [HELMS[max(0, repository.helm - 1)], HOLDERS[0]]
    expires = NOW + data.draw(st.sampled_from([9, 9, 9, -9])) * DAY
    version = repository.floor + data.draw(st.integers(0, 4))
    repository.publish(version, expires, data.draw(st.sampled_from(signers)))


def test_a_newer_root_wins_where_tuf_compares_numbers_alone() -> None:
    """The rule that differs: TUF would keep number 5, and a node that comes later would take number 3."""
    repository = Repository([root_of([HOLDERS[0]], helm=HELMS[0])], [Signing((0,))])
    ours, theirs = Ours(), Theirs([tuf_version(repository.roots[0], Signing((0,)))])
    repository.publish(5, NOW + DAY, HELMS[0])
    assert (ours.take(repository, 0), theirs.take(repository, 0)) == (True, True)
    repository.rotate(after(repository.roots[0], [HOLDERS[0]], helm=HELMS[0]), Signing((0,)), 0)
    repository.publish(3, NOW + DAY, HELMS[0])
    assert (ours.take(repository, 1), theirs.take(repository, 1)) == (True, False)
    late = Theirs([tuf_version(repository.roots[0], Signing((0,)))])
    assert (Ours().take(repository, 1), late.take(repository, 1)) == (True, True)
