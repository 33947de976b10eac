"""Writes negentropy.json: whole conversations of the reference implementation of negentropy, frame by frame.

    python -m tests.vectors.negentropy PATH_TO_A_CHECKOUT_OF_hoytech/negentropy

Compiles negentropy.cpp against the C++ reference (needs g++ and OpenSSL's headers) and lets two of its instances talk
about the sets below. The sets are made from hashes, so that the file holds only how they are made; a frame over 96
bytes is kept as its length and the beginning of its SHA-256, what is found to differ as its number and SHA-256.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "negentropy.json"
SHOWN = 96
"""Bytes of the longest frame that is kept whole."""

Entry = tuple[int, bytes]


@dataclass(frozen=True)
class Sets:
    """How two sets are made: so many entries are in both, so many in one alone.

    Times are `start` to below `start + spread`; those of what is in one alone lie `late` further. Ids begin with
    `prefix` bytes that are all the same.
    """

    both: int = 0
    a: int = 0
    b: int = 0
    start: int = 1_700_000_000
    spread: int = 7 * 86_400
    late: int = 0
    prefix: int = 0

    def made(self) -> tuple[list[Entry], list[Entry]]:
        """The entries of either set."""
        entries = self._entries()
        shared = [next(entries) for _ in range(self.both)]
        alone = [(time + self.late, id) for time, id in (next(entries) for _ in range(self.a + self.b))]
        return shared + alone[: self.a], shared + alone[self.a :]

    def _entries(self) -> Iterator[Entry]:
        """Entries with ids that are all different."""
        seen: set[bytes] = set()
        number = 0
        while True:
            drawn = sha256(repr((self.prefix, number)).encode()).digest()
            id = bytes([7]) * self.prefix + drawn[self.prefix :]
            number += 1
            if id not in seen:
                seen.add(id)
                yield self.start + int.from_bytes(sha256(drawn).digest()[:8], "big") % self.spread, id


@dataclass(frozen=True)
class Case:
    """A conversation: the sets, and the frame limit of both sides; 0 is none."""

    name: str
    sets: Sets
    limit: int = 0
    frames: list[str] = field(default_factory=list)
    have: str = ""
    need: str = ""


def short(frame: bytes) -> str:
    """A frame as it is kept."""
    return frame.hex() if len(frame) <= SHOWN else f"{len(frame)} bytes, sha256 {sha256(frame).hexdigest()[:32]}"


def summed(ids: Sequence[bytes]) -> str:
    """Ids as they are kept, in whatever order they were found."""
    return f"{len(ids)} ids, sha256 {sha256(b''.join(sorted(ids))).hexdigest()[:32]}"


def cases() -> Iterator[Case]:
    """What the reference is asked."""
    edge = 2**64 - 1 - 1_000
    small = {
        "nothing at all": Sets(),
        "one against nothing": Sets(a=1),
        "nothing against one": Sets(b=1),
        "one in both": Sets(both=1),
        "one each": Sets(a=1, b=1),
        "the same time in all": Sets(both=40, a=3, b=5, spread=1),
        "the lowest and the highest times": Sets(both=50, a=4, b=4, start=0, spread=2**64 - 1),
        "times at the upper end": Sets(both=300, a=4, b=4, start=edge, spread=1_000),
        "times beyond 63 bits": Sets(both=300, a=4, b=4, start=2**63, spread=2**40),
    }
    small |= {f"{count} in both": Sets(both=count) for count in (31, 32, 33, 255, 512)}
    small |= {f"{count} in both, one each": Sets(both=count, a=1, b=1) for count in (30, 31, 32, 511, 4_096)}
    small |= {f"{count} against nothing": Sets(a=count) for count in (31, 32, 1_000)}
    small |= {f"nothing against {count}": Sets(b=count) for count in (31, 32)}
    for name, sets in small.items():
        yield Case(name, sets)
    large = {
        "equal sets": Sets(both=15_625),
        "ten lost there": Sets(both=15_615, a=10),
        "ten lost here": Sets(both=15_615, b=10),
        "a few each": Sets(both=15_600, a=12, b=15),
        "a healed partition": Sets(both=15_625, a=938, b=938, spread=20 * 86_400, late=20 * 86_400),
        "a late joiner": Sets(b=5_000),
        "a joiner who is asked": Sets(a=5_000),
        "nothing in common": Sets(a=2_000, b=1_500),
        "one second for all": Sets(both=3_000, a=60, b=40, spread=1),
        "a few seconds for all": Sets(both=4_000, a=60, b=40, spread=7),
        "long shared prefixes": Sets(both=2_000, a=30, b=30, spread=1, prefix=30),
        "ids that differ in the last byte": Sets(both=120, a=40, b=40, spread=2, prefix=31),
        "half in common": Sets(both=2_500, a=1_200, b=1_300),
    }
    for name, sets in large.items():
        for limit in (0, 4_096, 20_000, 60_000):
            yield Case(name, sets, limit)
    for limit in range(4_097, 4_097 + 33):
        yield Case("a limit next to another", Sets(both=60, b=300), limit)


def compiled(reference: Path, folder: Path) -> Path:
    """The program that lets the reference talk to itself."""
    program = folder / "negentropy"
    source = HERE / "negentropy.cpp"
    subprocess.run(
        ["g++", "-std=c++20", "-O2", f"-I{reference / 'cpp'}", str(source), "-o", str(program), "-lcrypto"], check=True
    )
    return program


def conversations(program: Path, asked: Sequence[Case]) -> Iterator[Case]:
    """The cases with what the reference said."""
    lines: list[str] = []
    for case in asked:
        a, b = case.sets.made()
        lines.append(f"{case.limit} {len(a)} {len(b)}")
        lines.extend(f"{time} {id.hex()}" for time, id in a + b)
    said = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True).stdout
    answers = iter(said.splitlines())
    for case in asked:
        frames: list[str] = []
        while (line := next(answers)).startswith("frame "):
            frames.append(short(bytes.fromhex(line.removeprefix("frame "))))
        have, need = (summed([bytes.fromhex(id) for id in text.split()[1:]]) for text in (line, next(answers)))
        yield Case(case.name, case.sets, case.limit, frames, have, need)


def stored(case: Case) -> dict[str, Any]:
    """A case as it is kept; of its sets only what is not the default."""
    sets = {name: value for name, value in asdict(case.sets).items() if value != getattr(Sets(), name)}
    return asdict(case) | {"sets": sets}


def load() -> list[Case]:
    """The cases of the file."""
    listed = json.loads(FILE.read_text(encoding="utf-8"))["cases"]
    return [Case(**case | {"sets": Sets(**case["sets"])}) for case in listed]


def main(reference: Path) -> None:
    """Write the file anew."""
    commit = subprocess.run(
        ["git", "-C", str(reference), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with TemporaryDirectory() as folder:
        answered = list(conversations(compiled(reference, Path(folder)), list(cases())))
    origin = {
        "repository": "https://github.com/hoytech/negentropy",
        "commit": commit,
        "implementation": "cpp/negentropy.h with storage/Vector.h, by tests/vectors/negentropy.cpp",
        "written by": "python -m tests.vectors.negentropy",
    }
    lines = ",\n".join(json.dumps(stored(case)) for case in answered)
    FILE.write_text(f'{{"origin": {json.dumps(origin)},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
