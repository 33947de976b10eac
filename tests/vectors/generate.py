"""Writes validate.json: statements, the state they meet, and the verdict that any implementation must reach.

    python -m tests.vectors.generate

A case's state is the project and the statements accepted before, in order. Verdict and reason stand in the cases as
written by hand; what follows a colon in a reason is left out, since it is the words of a library. Keys and times are
fixed, and Ed25519 is deterministic, so the file is always the same.
"""

import json
from pathlib import Path

from tests.vectors.authority import checkpoints, forks, rulings, stamps, verdicts
from tests.vectors.statements import PROJECT
from tests.vectors.volunteers import claims, envelopes, grants, profiles, results

FILE = Path(__file__).parent / "validate.json"
PARTS = (envelopes, grants, claims, results, profiles, rulings, verdicts, checkpoints, stamps, forks)


def text() -> str:
    """The file's content."""
    chain = {"root": PROJECT.root_envelope.data, "manifest": PROJECT.manifest_envelope.data, "plan": PROJECT.plan_data}
    cases = [case.plain() for part in PARTS for case in part()]
    whole = {"project": {name: data.hex() for name, data in chain.items()}, "cases": cases}
    return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="ascii")
