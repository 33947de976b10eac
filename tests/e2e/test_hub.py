"""A dataset on the Hub, from the maintainer's commands to the export. Volunteers read it there."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from demo.processes import Processes
from tests.e2e.swarm_of_processes import PROMPT, SHAPES, SwarmOfProcesses, draw, finished, wait_for
from tests.sources.fake_hub import FakeHub

pytestmark = pytest.mark.slow

REPO = "someone/shapes"
PICTURES = 150
FAULTY = {"no bytes": (None, "empty"), "a page": (b"<html>not found</html>" * 9, "not-image")}
GROUPS = 30
TAIL = 65_536
"""Bytes of a file's end that are read for its footer: much beside files as small as these."""


@dataclass
class Outcome:
    """What a job over a dataset on the Hub came to; the Hub and the nodes are still there."""

    processes: Processes
    hub: FakeHub
    files: dict[str, bytes]
    rows: list[dict[str, Any]]
    expected: dict[str, tuple[str, str]]
    planned: int
    volunteer: Path


def dataset(pictures: Path) -> tuple[dict[str, bytes], dict[str, tuple[str, str]]]:
    """Two Parquet files of the drawn pictures, and for each key the hash and the true caption."""
    lines = map(json.loads, (pictures / "truth.jsonl").read_text().splitlines())
    truth = {row["path"]: row["captions"][PROMPT] for row in lines}
    cells = {key: (pictures / "images" / key).read_bytes() for key in truth}
    rows: list[tuple[str, bytes | None]] = [*cells.items(), *((key, data) for key, (data, _) in FAULTY.items())]
    files = {f"data/train-{number}.parquet": parquet(rows[number::2]) for number in range(2)}
    return files, {key: (hashlib.sha256(cells[key]).hexdigest(), truth[key]) for key in truth}


def parquet(rows: list[tuple[str, bytes | None]]) -> bytes:
    columns = {
        "id": [key for key, _ in rows],
        "question": [PROMPT for _ in rows],
        "secret": ["nobody asked for this column" for _ in rows],
        "image": [{"bytes": data, "path": None} for _, data in rows],
    }
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=GROUPS)
    return out.getvalue()


class HubProject(SwarmOfProcesses):
    """A project over the dataset, whose prompt is the field `question` of each image."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes, self.folder, self.project = processes, folder, folder / "project"
        given = ("--images", f"hf://datasets/{REPO}", "--model", str(SHAPES), "--prompt", "caption={question}")
        small = ("--chunk", "64", "--dtype", "float32", "--max-tokens", "48", "--name", "hub")
        processes.run("project", "init", str(self.project), *given, *small)
        file = self.project / "project.yaml"
        settings = yaml.safe_load(file.read_text())
        settings["images"] = {"source": settings["images"], "key_column": "id", "fields": ["question"]}
        settings["policy"]["error_authors"] = 1
        file.write_text(yaml.safe_dump(settings))
        processes.run("project", "sign", str(self.project))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("hub")
    draw(folder / "pictures", PICTURES, seed=21)
    files, expected = dataset(folder / "pictures")
    with pytest.MonkeyPatch.context() as environment, FakeHub({REPO: files}) as hub:
        for variable, value in hub.environment.items():
            environment.setenv(variable, value)
        with Processes(folder) as processes:
            swarm = HubProject(processes, folder)
            planned = sum(hub.bytes_of(path) for path in files)
            swarm.serve()
            volunteer = swarm.volunteer("alice")
            wait_for(volunteer, finished, [swarm.coordinator])
            export = folder / "captions.jsonl"
            processes.run("export", "jsonl", str(export), "--proofs", "--node", str(swarm.coordinator.directory))
            rows = [json.loads(line) for line in export.read_text().splitlines()]
            processes.run("verify", str(export))
            yield Outcome(processes, hub, files, rows, expected, planned, volunteer.directory)


def test_every_image_has_one_row_about_its_own_bytes(outcome: Outcome) -> None:
    assert sorted(row["key"] for row in outcome.rows) == sorted([*outcome.expected, *FAULTY])
    assert {row["key"]: row["image"] for row in outcome.rows if not row["error"]} == {
        key: hash_ for key, (hash_, _) in outcome.expected.items()
    }


def test_captions_answer_the_prompt_that_the_field_gave(outcome: Outcome) -> None:
    right = sum(row["caption"] == outcome.expected[row["key"]][1] for row in outcome.rows if not row["error"])
    assert right >= 0.95 * PICTURES


def test_cells_that_are_no_images_are_error_rows(outcome: Outcome) -> None:
    assert {row["key"]: row["error"] for row in outcome.rows if row["error"]} == {
        key: code for key, (_, code) in FAULTY.items()
    }
    listed = outcome.processes.run("failures", "--json", "--node", str(outcome.volunteer))
    assert {row["key"]: row["code"] for row in json.loads(listed)} == {key: code for key, (_, code) in FAULTY.items()}


def test_the_export_has_the_fields_that_were_asked_for_and_no_others(outcome: Outcome) -> None:
    assert all(row["fields"] == {"question": PROMPT} for row in outcome.rows)


def test_the_volunteer_read_each_image_once(outcome: Outcome) -> None:
    images = sum(len(data) for data in outcome.files.values())
    moved = sum(outcome.hub.bytes_of(path) for path in outcome.files) - outcome.planned
    assert moved <= 1.1 * images + len(outcome.files) * TAIL
    assert os.environ["HF_ENDPOINT"] == outcome.hub.url
