"""Who made the captions: CONTRIBUTORS.md, contributors.parquet and CITATION.cff.

Credit is for rows that count: an answer of the canonical table, of what the project asks now or keeps of what it asked.
What was taken back, banned or lost to another author's row gives none, and neither do errors.

Always holds: equal tables give equal bytes; all times come from the ledger. Names are strangers' text: what steers a
terminal or turns the direction of text is left out, and in Markdown and YAML a name stays a name. Who chose none is
counted with all others who chose none; contributors.parquet has each key, as every export of captions does.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2pcap.export.destination import whole_path
from p2pcap.export.gathering import Gathering, Select
from p2pcap.project.opened import Project
from p2pcap.store.schema import ASKED, KEPT

FILES = ("CONTRIBUTORS.md", "contributors.parquet", "CITATION.cff")

MAX_NAME = 32
"""Characters of a public name, as grants and profiles bound it."""

FINGERPRINT = 8
"""The last characters of a peer id, which tell authors of one name apart."""

CITED = 100
"""Authors that CITATION.cff names; the others it counts."""

MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&:@/])")

ROWS = """
SELECT b.author_no, c.chunk, c.item, list_sum(c.tokens)::BIGINT AS tokens, b.time
FROM counted c JOIN batch b USING (no) JOIN task t ON t.task_no = b.task_no WHERE c.error = '' AND {which}
"""

SHARES = f"""
SELECT a.peer_id AS author, a.name AS author_name, count(DISTINCT (r.chunk, r.item)) AS images,
    count(*) AS captions, sum(r.tokens)::BIGINT AS tokens, max(r.time)::BIGINT AS last
FROM ({ROWS.format(which=ASKED)} UNION ALL {ROWS.format(which=KEPT)}) r JOIN author a USING (author_no)
GROUP BY ALL ORDER BY captions DESC, author
"""

SPDX = {
    name.lower(): name
    for name in (
        "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-3.0", "MIT",
        "Apache-2.0", "ODbL-1.0", "PDDL-1.0", "ODC-By-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "BSD-3-Clause",
        "GPL-3.0-or-later", "AGPL-3.0-or-later", "Unlicense",
    )
}  # fmt: skip
"""Licences that CITATION.cff may name: its schema knows those of SPDX alone."""


@dataclass(frozen=True)
class Contributor:
    """An author's rows that count: images, captions (one for each image and stage) and their tokens; `last` is when the
    newest was made, in unix seconds. `name` is fit to be shown, and empty where none was chosen."""

    author: str
    name: str
    images: int
    captions: int
    tokens: int
    last: int

    @property
    def fingerprint(self) -> str:
        """The end of the peer id."""
        return self.author[-FINGERPRINT:]


def contributors(select: Select) -> list[Contributor]:
    """All who have rows that count, who has most of them first."""
    rows = [row for batch in select(SHARES) for row in batch.to_pylist()]
    return [Contributor(name=clean_name(row.pop("author_name")), **row) for row in rows]


def write_attribution(folder: Path, select: Select, *, force: bool = False) -> int:
    """Write FILES into `folder`. Returns the number of contributors. Raises ConfigError."""
    found, project = contributors(select), Gathering(select).project
    texts = {FILES[0]: contributors_md(project, found), FILES[2]: citation(project, found)}
    for name, text in texts.items():
        with whole_path(folder / name, force=force) as path:
            path.write_text(text, encoding="utf-8")
    with whole_path(folder / FILES[1], force=force) as path:
        write_table(path, found)
    return len(found)


def clean_name(name: str) -> str:
    """A public name as it may be shown anywhere: one line, composed (NFC), without what cannot be seen."""
    text = unicodedata.normalize("NFC", name)
    seen = "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or letter.isprintable())
    return " ".join(seen.split())[:MAX_NAME].strip()


def markdown(text: str) -> str:
    """A text that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", text)


def contributors_md(project: Project, found: Sequence[Contributor]) -> str:
    """CONTRIBUTORS.md: a table, with those who chose no name in one line."""
    total = sum(one.captions for one in found)
    lines = [
        f"# Who captioned {markdown(clean_title(project.title))}",
        "",
        f"{total:,} captions by {len(found)} contributors. Each is signed by its contributor's key; `p2pcap verify`",
        "checks that. Names are as their owners chose them, unchecked; the key tells people of one name apart.",
        "",
        "| name | key | images | captions | share |",
        "|---|---|---:|---:|---:|",
        *(_line(markdown(one.name), f"…{one.fingerprint}", [one], total) for one in found if one.name),
    ]
    nameless = [one for one in found if not one.name]
    if nameless:
        lines.append(_line(f"{len(nameless)} without a name", "", nameless, total))
    return "\n".join(lines) + "\n"


def _line(name: str, key: str, those: Iterable[Contributor], total: int) -> str:
    ones = list(those)
    images, captions = sum(one.images for one in ones), sum(one.captions for one in ones)
    return f"| {name} | {key} | {images:,} | {captions:,} | {100 * captions / total:.2f} % |"


def citation(project: Project, found: Sequence[Contributor]) -> str:
    """CITATION.cff (Citation File Format 1.2.0). Every text is a JSON string, which YAML reads as it is."""
    named = [one.name for one in found if one.name]
    others = len(found) - len(named[:CITED])
    authors = [
        *named[:CITED],
        *([f"{others} other contributors" if named else f"{others} contributors"] if others else []),
    ]
    last = max((one.last for one in found), default=project.manifest.created)
    lines = {
        "cff-version": "1.2.0",
        "message": "If you use these captions, please cite them as below.",
        "type": "dataset",
        "title": clean_title(project.title),
        "abstract": clean_title(project.plan.description),
        "version": str(project.manifest.version),
        "date-released": datetime.fromtimestamp(min(last, 253_402_300_799), UTC).date().isoformat(),
        "license": SPDX.get(project.plan.license.strip().lower(), ""),
    }
    head = [f"{name}: {quoted(value)}" for name, value in lines.items() if value]
    people = [f"  - name: {quoted(author)}" for author in authors or ["The contributors"]]
    root = quoted(f"p2pcap:{project.hash.hex()}")
    known = ["identifiers:", "  - type: other", f"    value: {root}", '    description: "The project, by its root"']
    return (
        "\n".join([*head, "authors:", *people, *known, f"    description: {quoted('The project, by its root')}"]) + "\n"
    )


def clean_title(title: str) -> str:
    """The maintainer's text on one line, without what cannot be seen."""
    return " ".join("".join(letter for letter in title if letter.isspace() or letter.isprintable()).split())


def quoted(text: str) -> str:
    """A YAML string: one of JSON is, if all in it can be seen."""
    return json.dumps(text, ensure_ascii=False)


def write_table(path: Path, found: Sequence[Contributor]) -> None:
    """contributors.parquet: a row for each author; `author_name` is null where none was chosen."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = sum(one.captions for one in found)
    columns: dict[str, tuple[Any, list[Any]]] = {
        "author": (pa.string(), [one.author for one in found]),
        "author_name": (pa.string(), [one.name or None for one in found]),
        "images": (pa.int64(), [one.images for one in found]),
        "captions": (pa.int64(), [one.captions for one in found]),
        "share": (pa.float64(), [one.captions / total for one in found]),
        "tokens": (pa.int64(), [one.tokens for one in found]),
    }
    arrays = {name: pa.array(values, kind) for name, (kind, values) in columns.items()}
    pq.write_table(pa.table(arrays), path, compression="zstd")
