"""Who is admitted does not depend on what came first: grants and checkpoints in any order, the same ones are kept."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.admission import MAX_AUTHORS, UNSEALED, Admission, Admitted, Way

SIGNER, OTHER = b"c" * 32, b"d" * 32


def way(uses: int = 2, ticket: bytes = b"t" * 32, signer: bytes = SIGNER) -> Way:
    return Way("invite", signer, ticket, uses, 1_900_000_000)


def grant(number: int, author: int | None = None, through: Way | None = None) -> Admitted:
    """The grant with this number; ids are in no order that the numbers tell."""
    id_ = hashlib.sha256(b"%d" % number).digest()
    return Admitted(id_, 1_800_000_000, b"%032d" % (number if author is None else author), through or way())


def kept(admission: Admission) -> dict[bytes, int]:
    return {held.id: number for held, number in admission}


@dataclass(frozen=True)
class World:
    """Grants, and the checkpoints that seal some of them, in their order."""

    grants: tuple[Admitted, ...]
    checkpoints: tuple[frozenset[bytes], ...]

    @property
    def sealed(self) -> dict[bytes, int]:
        numbers: dict[bytes, int] = {}
        for number, ids in enumerate(self.checkpoints, 1):
            for id_ in ids:
                numbers.setdefault(id_, number)
        return numbers

    def expected(self) -> dict[bytes, int]:
        """The rule, word by word."""
        numbers = {one.id: self.sealed.get(one.id, UNSEALED) for one in self.grants}
        found: dict[bytes, int] = {}
        for through in {one.way for one in self.grants}:
            authors: set[bytes] = set()
            for one in sorted(self.grants, key=lambda one: (numbers[one.id], one.id)):
                if one.way == through and one.author not in authors and len(authors) < through.uses:
                    authors.add(one.author)
                    found[one.id] = numbers[one.id]
        return found


WAYS = [way(1), way(2), way(3, b"u" * 32), way(2, signer=OTHER), Way("open", uses=2), Way("allowlist", SIGNER)]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    numbers = st.tuples(st.integers(0, 40), st.integers(0, 5), st.sampled_from(WAYS))
    drawn = draw(st.lists(numbers, max_size=14, unique_by=lambda one: one[0]))
    grants = tuple(grant(number, author, through) for number, author, through in drawn)
    ids = st.frozensets(st.sampled_from([one.id for one in grants])) if grants else st.just(frozenset[bytes]())
    return World(grants, tuple(draw(st.lists(ids, max_size=4))))


class Node:
    """A node that takes the checkpoints in their order, and whatever grants come in between."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.admission = Admission()
        self.taken = 0

    def take(self, one: Admitted) -> None:
        number = self.world.sealed.get(one.id, UNSEALED)
        self.admission.take(one, number if number <= self.taken else UNSEALED)

    def seal(self) -> None:
        self.taken += 1
        self.admission.seal(self.taken, self.world.checkpoints[self.taken - 1])

    def finish(self) -> None:
        """The checkpoints that are left; then what others hold is offered once more, as sync does."""
        while self.taken < len(self.world.checkpoints):
            self.seal()
        for one in self.world.grants:
            self.take(one)


@given(worlds(), st.data())
def test_whatever_the_order_the_same_grants_are_kept(world: World, data: st.DataObject) -> None:
    steps = [*world.grants, *world.grants[::2], *(None for _ in world.checkpoints)]
    for _ in range(2):
        node = Node(world)
        for step in data.draw(st.permutations(steps)):
            if step is None:
                node.seal()
            else:
                node.take(step)
            assert sum(1 for _ in node.admission) == len(node.admission)
            check_bounds(node.admission)
        node.finish()
        assert kept(node.admission) == world.expected()
        check_whole(node.admission, world.grants)


@given(worlds())
def test_what_one_node_keeps_is_enough_for_another(world: World) -> None:
    """The checkpoints' maker holds what it sealed; a node that joins gets grants from it alone."""
    maker, joiner = Node(world), Node(world)
    for one in world.grants:
        maker.take(one)
    maker.finish()
    joiner.taken = len(world.checkpoints)
    for held, _ in maker.admission:
        joiner.take(held)
    assert kept(joiner.admission) == kept(maker.admission) == world.expected()


def check_bounds(admission: Admission) -> None:
    by_way: dict[Way, list[bytes]] = {}
    for held, _ in admission:
        by_way.setdefault(held.way, []).append(held.author)
    for through, authors in by_way.items():
        assert len(authors) == len(set(authors)) <= through.uses


def check_whole(admission: Admission, grants: Iterable[Admitted]) -> None:
    """All the ways of asking agree."""
    held = [one for one, _ in admission]
    for author in {one.author for one in grants}:
        assert {one.id for one, _ in admission.of(author)} == {one.id for one in held if one.author == author}
    for ticket in {one.way.ticket for one in grants if one.way.ticket}:
        assert {one.id for one, _ in admission.by_ticket(ticket)} == {o.id for o in held if o.way.ticket == ticket}
    for through in {one.way for one in grants}:
        assert admission.used(through) == sum(one.way == through for one in held)
    for one in grants:
        assert (one.id in admission) == (one in held)


def in_order(count: int, through: Way | None = None) -> list[Admitted]:
    """Grants for as many authors, ascending by id."""
    return sorted((grant(number, through=through) for number in range(count)), key=lambda one: one.id)


def test_the_lower_ids_are_kept_while_no_checkpoint_has_spoken() -> None:
    first, second, third = in_order(3)
    admission = Admission()
    assert admission.take(second).kept
    assert admission.take(third).kept
    assert admission.take(first).displaced == third
    assert not admission.would_keep(third)
    assert not admission.take(third).kept
    assert kept(admission) == {first.id: UNSEALED, second.id: UNSEALED}


def test_what_is_sealed_stays_and_what_was_dropped_comes_back_with_its_checkpoint() -> None:
    first, second, third, fourth = in_order(4)
    admission = Admission()
    for one in (first, second, third, fourth):
        admission.take(one)
    assert kept(admission) == {first.id: UNSEALED, second.id: UNSEALED}
    assert admission.seal(1, [second.id, fourth.id]) == {second.author}
    assert admission.would_keep(fourth, 1)
    assert admission.take(fourth, 1).displaced == first
    assert kept(admission) == {second.id: 1, fourth.id: 1}
    assert not admission.would_keep(first)
    assert not admission.take(third, 2).kept


def test_a_checkpoint_seals_a_grant_once() -> None:
    (one,) = in_order(1)
    admission = Admission()
    admission.take(one)
    assert admission.seal(1, [one.id, b"x" * 32]) == {one.author}
    assert admission.seal(2, [one.id]) == set()
    assert kept(admission) == {one.id: 1}


def test_an_author_takes_one_place_of_an_invitation() -> None:
    through = way(2)
    grants = sorted((grant(number, 7, through) for number in range(50)), key=lambda one: one.id)
    admission = Admission()
    for one in reversed(grants):
        admission.take(one)
    assert kept(admission) == {grants[0].id: UNSEALED}
    assert admission.used(through) == 1
    assert admission.take(grant(99, 8, through)).displaced is None


def test_an_author_may_come_in_by_two_invitations() -> None:
    one, two = grant(1, 7, way(1)), grant(2, 7, way(1, b"u" * 32))
    admission = Admission()
    admission.take(one)
    admission.take(two)
    assert {held.id for held, _ in admission.of(one.author)} == {one.id, two.id}
    lowest = in_order(40, way(1))[0]
    assert lowest.id < one.id
    assert admission.take(lowest).displaced == one
    assert [held.id for held, _ in admission.of(one.author)] == [two.id]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_holder_who_signs_a_hundred_thousand_grants_takes_the_places_there_are(backwards: bool) -> None:
    through = way(5)
    grants = in_order(100_000, through)
    admission = Admission()
    for one in reversed(grants) if backwards else grants:
        admission.take(one)
    assert len(admission) == admission.used(through) == 5
    assert sum(len(list(admission.of(one.author))) for one in grants) == 5


def test_an_invitation_without_a_number_is_bounded_too() -> None:
    through = Way("invite", SIGNER, b"t" * 32)
    assert through.uses == MAX_AUTHORS
    admission = Admission()
    for one in in_order(MAX_AUTHORS + 100, through):
        admission.take(one)
    assert len(admission) == MAX_AUTHORS


def test_a_ticket_of_another_signer_or_number_has_places_of_its_own() -> None:
    sequences: Sequence[Way] = [way(1), way(1, signer=OTHER), way(2)]
    admission = Admission()
    for through in sequences:
        for one in in_order(5, through):
            admission.take(
                Admitted(
                    hashlib.sha256(one.id + bytes([through.uses]) + through.signer).digest(),
                    one.time,
                    one.author,
                    through,
                )
            )
    assert [admission.used(through) for through in sequences] == [1, 1, 2]
    assert len(list(admission.by_ticket(b"t" * 32))) == 4
