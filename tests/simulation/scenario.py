"""What a seed stands for: the project, the nodes, how they are connected, and what goes wrong when.

Always holds: a scenario is drawn whole before anything runs, from one `random.Random`.
"""

import random
from dataclasses import dataclass, field

from p2pcap.identity import Identity
from p2pcap.project.records import Policy
from tests.makers import COORDINATOR, Made, make_project
from tests.simulation import hostile
from tests.simulation.node import Make
from tests.simulation.wires import Weather

NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus")
VOLUNTEERS = tuple(Identity.from_seed(bytes([number]) * 32) for number in range(11, 18))
HUB = Identity.from_seed(bytes([10]) * 32)
"""The coordinator's node: it captions nothing, and makes checkpoints."""
STRANGERS = tuple(Identity.from_seed(bytes([number]) * 32) for number in range(21, 24))

CALM = Weather()
RULINGS = ("void", "void", "redact", "ban", "lift", "confirm")
SHAPES = ((64, 64), (100, 64), (128, 70, 64), (64, 64, 64), (128, 128), (96, 65, 64, 64))
"""Images in each chunk."""

_made: dict[tuple[tuple[int, ...], int], Made] = {}


@dataclass(frozen=True)
class Event:
    """Something that happens at `at` seconds: `what` is a method of `tests.simulation.faults.Faults`."""

    at: float
    what: str
    about: tuple[object, ...] = ()


@dataclass
class Scenario:
    """One seed's world. From `calm_at` seconds on nothing goes wrong any more."""

    made: Made
    nodes: list[tuple[str, Identity, Make]]
    strangers: list[tuple[type[hostile.Hostile], Identity]]
    lines: list[tuple[str, str]]
    calm_at: float
    weather: Weather
    events: list[Event] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Nodes that join later."""

    def __str__(self) -> str:
        made = ", ".join(str(len(items)) for items in self.made.items)
        nodes = ", ".join(f"{name} ({make.image:.1f} s, skew {make.skew:.0f})" for name, _, make in self.nodes)
        strangers = ", ".join(kind.__name__ for kind, _ in self.strangers) or "none"
        events = "".join(f"\n  {event.at:6.1f} {event.what} {event.about}" for event in self.events)
        return f"chunks {made}; nodes {nodes}; hostile: {strangers}; calm at {self.calm_at:.0f}{events}"


def draw(rng: random.Random) -> Scenario:
    """The scenario of a seed."""
    made = _project(rng.choice(SHAPES), rng.choice((1, 2, 2)))
    nodes = _nodes(rng, made)
    strangers = _strangers(rng)
    peers = [identity.peer_id for _, identity, _ in nodes]
    lines = _lines(rng, peers) + [
        (identity.peer_id, peer) for _, identity in strangers for peer in rng.sample(peers, min(len(peers), 3))
    ]
    scenario = Scenario(made, nodes, strangers, lines, rng.uniform(40.0, 140.0), _weather(rng))
    _draw_events(rng, scenario)
    return scenario


def _project(shape: tuple[int, ...], error_authors: int) -> Made:
    if (shape, error_authors) not in _made:
        _made[shape, error_authors] = make_project(shape, policy=Policy(error_authors=error_authors))
    return _made[shape, error_authors]


def _nodes(rng: random.Random, made: Made) -> list[tuple[str, Identity, Make]]:
    hashes = [item.hash for items in made.items for item in items]
    bad = set(rng.sample(hashes, rng.choice((0, 0, 1, 3))))
    nodes = []
    for name, identity in list(zip(NAMES, VOLUNTEERS, strict=True))[: rng.randint(3, 6)]:
        own = set(rng.sample(hashes, 2)) if rng.random() < 0.15 else set()
        make = Make(rng.choice((4, 8, 16)), rng.uniform(1.0, 6.0), (0.001, 0.05), _skew(rng), bad | own)
        if rng.random() < 0.2:
            make.disk = (0.1, 2.0)
        nodes.append((name, identity, make))
    hub = Make(volunteer=False, signer=COORDINATOR, skew=rng.uniform(-2.0, 2.0))
    return [("hub", HUB, hub), *nodes] if rng.random() < 0.8 else nodes


def _skew(rng: random.Random) -> float:
    """Most clocks are right; some are off a little, or more than claims may be, or more than any statement may be."""
    most = rng.choice((1.0, 1.0, 1.0, 25.0, 100.0, 250.0))
    return rng.uniform(-most, most)


def _strangers(rng: random.Random) -> list[tuple[type[hostile.Hostile], Identity]]:
    count = rng.choice((0, 0, 1, 1, 2))
    return [(rng.choice(hostile.KINDS), STRANGERS[number]) for number in range(count)]


def _lines(rng: random.Random, peers: list[str]) -> list[tuple[str, str]]:
    """Everybody with everybody, a ring, a star, or a tree with a few lines more."""
    match rng.choice(("full", "full", "ring", "star", "tree")):
        case "full":
            return [(one, other) for place, one in enumerate(peers) for other in peers[:place]]
        case "ring":
            return [(one, peers[place - 1]) for place, one in enumerate(peers)]
        case "star":
            return [(peers[0], other) for other in peers[1:]]
    tree = [(one, rng.choice(peers[:place])) for place, one in enumerate(peers) if place]
    return list(dict.fromkeys([*tree, *((a, b) for a, b in (rng.sample(peers, 2) for _ in range(2)))]))


def _weather(rng: random.Random) -> Weather:
    if rng.random() < 0.4:
        return Weather()
    slow = rng.choice((0.3, 1.0, 5.0))
    return Weather((0.01, slow), rng.choice((0.0, 0.05, 0.3)), rng.choice((0.0, 0.2)), rng.choice((0.0, 0.02, 0.1)))


def _draw_events(rng: random.Random, scenario: Scenario) -> None:
    names = [name for name, _, _ in scenario.nodes]
    volunteers = [name for name in names if name != "hub"]
    until = scenario.calm_at
    if rng.random() < 0.3:
        scenario.late = [volunteers[0]]
        scenario.events.append(Event(rng.uniform(5.0, until), "start", (volunteers[0],)))
    for _ in range(rng.randint(0, 6)):
        at = rng.uniform(2.0, until)
        scenario.events += _fault(rng, at, until, names, volunteers)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.uniform(until / 3, until + 30.0)
        scenario.events.append(
            Event(at, rng.choice(("void", "redact", "ban", "lift", "confirm")), (rng.random(), rng.random()))
        )
    if rng.random() < 0.25:
        scenario.events.append(Event(rng.uniform(10.0, until), "leave", ("hub" if "hub" in names else volunteers[-1],)))
    scenario.events.sort(key=lambda event: event.at)


def _fault(rng: random.Random, at: float, until: float, names: list[str], volunteers: list[str]) -> list[Event]:
    match rng.choice(("crash", "crash", "restore", "part", "part", "slow", "storm", "jump")):
        case "crash":
            return [Event(at, "crash", (rng.choice(names), rng.uniform(0.5, 40.0)))]
        case "restore":
            name = rng.choice(volunteers)
            return [
                Event(rng.uniform(0.0, at), "back_up", (name,)),
                Event(at, "restore", (name, rng.uniform(0.5, 20.0))),
            ]
        case "part":
            return [
                Event(at, "part", (tuple(rng.sample(names, rng.randint(1, len(names) - 1))), rng.uniform(5.0, 60.0)))
            ]
        case "slow":
            return [Event(at, "slow", (rng.choice(volunteers), rng.uniform(3.0, 20.0)))]
        case "jump":
            return [Event(at, "jump", (rng.choice(volunteers), rng.uniform(-90.0, 90.0)))]
    return [Event(at, "storm", (rng.uniform(5.0, 30.0),))]
