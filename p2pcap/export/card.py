"""The dataset card: README.md of a repository on the Hub, with what its viewer reads at its head.

Always holds: what is told follows from the signed project, the table and what the maintainer says on the command line;
equal tables give equal cards. Texts that people wrote stand in JSON, in which nothing ends the block around it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from p2pcap.export.attribution import SPDX, clean_title, markdown
from p2pcap.export.gathering import Select
from p2pcap.identity import peer_id_of
from p2pcap.project.opened import Project
from p2pcap.project.records import Stage

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
"""The Hub's size classes (huggingface_hub, DatasetCardData): rows below the number are of the class."""

LARGEST = "1B<n<10B"

WHO = {"invite": "who has an invitation", "allowlist": "whom the maintainer names", "open": "anybody"}
"""Whom a project admits."""

ADULT = "not-for-all-audiences"

FACTS = """
SELECT count(*) AS rows, count(DISTINCT (chunk, item)) AS images, count(DISTINCT author) AS authors,
    count(sealed) AS sealed FROM captions WHERE error IS NULL
"""

VERIFIED = """
SELECT coalesce(sum(bit_count(confirmed & counted)), 0)::BIGINT AS verified FROM standing
"""

SOURCES = r"""
SELECT DISTINCT regexp_extract(file, '^hf://datasets/([^@]+)@', 1) AS repo FROM item WHERE file LIKE 'hf://datasets/%'
ORDER BY repo
"""


@dataclass(frozen=True)
class Said:
    """What the maintainer says of the dataset beside the project: the images' licence, languages, tags, and whether it
    is for adults only."""

    source_license: str = ""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    adult: bool = False


@dataclass(frozen=True)
class Facts:
    """What the table adds up to. Rows are answers: one for each image and stage. `sources` are repositories of the Hub
    that the images are from."""

    rows: int
    images: int
    authors: int
    sealed: int
    verified: int
    sources: tuple[str, ...]


def facts(select: Select) -> Facts:
    """Ask a node for them."""
    (row,) = _rows(select, FACTS)
    (checked,) = _rows(select, VERIFIED)
    return Facts(**row, **checked, sources=tuple(found["repo"] for found in _rows(select, SOURCES)))


def size_class(rows: int) -> str:
    """The Hub's size class of a dataset with so many rows."""
    return next((name for below, name in SIZES if rows < below), LARGEST)


def card(project: Project, found: Facts, said: Said, configs: Sequence[dict[str, Any]]) -> str:
    """The whole file. `configs` are the viewer's: names with their data files."""
    return f"---\n{_head(project, found, said, configs)}\n---\n\n{_body(project, found, said)}"


def _head(project: Project, found: Facts, said: Said, configs: Sequence[dict[str, Any]]) -> str:
    from huggingface_hub import DatasetCardData

    tags = ["p2pcap", "synthetic", "image-captions", *said.tags, *([ADULT] if said.adult else [])]
    data = DatasetCardData(
        **_license(project.plan.license),
        language=list(said.languages) or None,
        annotations_creators=["machine-generated"],
        task_categories=["image-to-text", "text-to-image"],
        size_categories=size_class(found.rows),
        source_datasets=list(found.sources) or None,
        pretty_name=clean_title(project.title),
        tags=list(dict.fromkeys(tags)),
        configs=list(configs),
    )
    return str(data.to_yaml()).strip()


def _license(text: str) -> dict[str, Any]:
    """As the Hub names licences: its own short name, or "other" with a name of one's own."""
    named = text.strip()
    if not named:
        return {}
    if named.lower() in SPDX:
        return {"license": named.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", named.lower()).strip("-") or "other"}


def _body(project: Project, found: Facts, said: Said) -> str:
    plan = project.plan
    parts = [
        f"# {markdown(clean_title(project.title))}",
        markdown(clean_title(plan.description)) if plan.description else "",
        f"{found.rows:,} captions of {found.images:,} images, made with p2pcap on the machines of {found.authors:,}\n"
        "contributors. [CONTRIBUTORS.md](CONTRIBUTORS.md) names them, [CITATION.cff](CITATION.cff) tells how to cite.",
        "## How the captions were made",
        *(_stage(stage) for stage in project.stages),
        "## How far they were checked",
        *_checks(project, found),
        "## Provenance",
        *_provenance(project),
        "## Licences",
        f"- captions: {markdown(plan.license) or 'not said'}",
        f"- images (not in this dataset): {markdown(said.source_license) or 'not said; ask whoever publishes them'}",
        *(f"- images from: [{repo}](https://huggingface.co/datasets/{repo})" for repo in found.sources),
    ]
    return "\n".join(f"{part}\n" if not part.startswith("- ") else part for part in parts if part) + "\n"


def _stage(stage: Stage) -> str:
    """Model, prompts and settings of a stage."""
    task = stage.task
    told = {
        "stage": stage.name,
        "task": task.tid.hex(),
        "model": task.model.name,
        "revision": task.model.revision or "its files travel with the project",
        "dtype": task.dtype,
        **({"quantization": task.quantization} if task.quantization else {}),
        **({"system": task.system} if task.system else {}),
        "prompts": {prompt.name: prompt.text for prompt in task.prompts},
        "sampling": _plain(task.sampling),
        **({"image_edge": task.image_edge} if task.image_edge else {}),
    }
    text = json.dumps(told, indent=2, ensure_ascii=False).replace("`", "\\u0060")
    return f"```json\n{text}\n```"


def _plain(record: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(record)


def _checks(project: Project, found: Facts) -> list[str]:
    policy = project.plan.policy
    share = 100 / max(found.rows, 1)
    return [
        f"- contributors: {WHO[policy.admits]}",
        f"- sealed by a signed checkpoint: {found.sealed * share:.2f} %",
        f"- found right by a verifier: {found.verified * share:.2f} %",
        f"- an image counts as impossible to caption once {policy.authors_for_error} contributors say so",
    ]


def _provenance(project: Project) -> list[str]:
    signer = peer_id_of(project.manifest_envelope.author)
    return [
        f"- project (SHA-256 of its root): `{project.hash.hex()}`",
        f"- manifest {project.manifest.version}: `{project.manifest_envelope.payload_hash.hex()}`",
        f"- signed by `{signer}`",
        "- each Parquet file carries the signatures of all its rows; check them without a network:",
        f"\n```\np2pcap verify data/FILE.parquet --project {project.hash.hex()}\n```",
    ]


def _rows(select: Select, sql: str) -> list[dict[str, Any]]:
    return [row for batch in select(sql) for row in batch.to_pylist()]
