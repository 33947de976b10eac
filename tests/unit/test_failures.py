"""Images that ended as errors: the list of codes, and the command that tells people of them."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import trio

from p2pcap.cli.failures import summary
from p2pcap.cli.main import run
from p2pcap.ledger.records import Row
from p2pcap.project.failures import CODES
from p2pcap.project.items import NO_IMAGE
from p2pcap.store.writes import DropBodies, Write
from tests.unit.control_node import controlled, running, runtime
from tests.unit.store_lists import ANYWHERE
from tests.unit.store_project import ADA, BOB, EVE

__all__ = ["runtime"]

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
REASON = "the host \x1b[2J\x9b\u202esays\nno"


def failed(item: int, code: str, reason: str = REASON) -> Row:
    return Row(item, NO_IMAGE, (), code, reason)


FAILED: list[Write] = [
    *ANYWHERE.setup,
    ANYWHERE.batch(ADA, 0, [failed(0, "gone"), failed(1, "timeout"), failed(2, "gone"), failed(3, "gone")]),
    ANYWHERE.batch(BOB, 0, [failed(0, "gone"), ANYWHERE.row(0, 3)]),
    ANYWHERE.batch(EVE, 2, [failed(0, "from-the-future")]),
]


@contextmanager
def ended(directory: Path, writes: list[Write]) -> Iterator[None]:
    """A node that has run before."""

    async def live() -> None:
        async with controlled(directory, writes):
            pass

    trio.run(live)
    yield


State = Callable[[Path, list[Write]], AbstractContextManager[None]]
BOTH = pytest.mark.parametrize("state", [running, ended])


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path) -> Path:
    """The folder of the only node there is."""
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "projects" / "0123456789abcdef"


def ok(capsys: Capture, *arguments: str) -> str:
    assert run(["failures", *arguments]) == 0
    return capsys.readouterr().out


@BOTH
def test_people_see_counts_first_then_what_to_do_then_each_image(state: State, node: Path, capsys: Capture) -> None:
    with state(node, FAILED):
        lines = ok(capsys).splitlines()
    assert lines[0] == "4 images ended as errors: 2 gone, 1 from-the-future, 1 timeout; 3 of them wait for others"
    assert lines[1] == f"  gone: {CODES['gone'].meaning}. {CODES['gone'].advice}"
    assert lines[2] == "  from-the-future: another version of p2pcap gave this code."
    assert lines[3].startswith("  timeout: ")
    assert lines[4].split() == ["image", "code", "authors", "state", "reason"]
    assert [line.split("  ")[0] for line in lines[5:]] == ["row/0", "row/1", "row/2", "part/0"]
    assert "final" in lines[5]
    assert "waits for others" in lines[6]


@BOTH
def test_programs_get_every_field(state: State, node: Path, capsys: Capture) -> None:
    with state(node, FAILED):
        rows = json.loads(ok(capsys, "--json"))
    assert [(row["key"], row["code"], row["final"], row["tries"]) for row in rows] == [
        ("row/0", "gone", True, 2),
        ("row/1", "timeout", False, 1),
        ("row/2", "gone", False, 1),
        ("part/0", "from-the-future", False, 1),
    ]
    assert rows[0]["authors"] == sorted([ADA.peer_id, BOB.peer_id])
    assert (rows[1]["url"], rows[1]["reason"], rows[3]["url"]) == ("https://example.org/1", REASON, None)
    assert (rows[1]["file"], rows[1]["place"]) == (None, None)
    assert (rows[3]["file"], rows[3]["place"]) == ("hf://o/n/part.parquet", 0)
    assert (rows[0]["chunk"], rows[0]["item"], rows[0]["time"]) == (0, 0, "2027-01-15T08:00:00")


def test_no_text_of_strangers_steers_the_terminal(node: Path, capsys: Capture) -> None:
    with ended(node, FAILED):
        for form in ([], ["--json"]):
            assert all(letter.isprintable() or letter == "\n" for letter in ok(capsys, *form))


def test_one_code_and_so_many_images(node: Path, capsys: Capture) -> None:
    with ended(node, FAILED):
        assert [row["key"] for row in json.loads(ok(capsys, "--json", "--reason", "gone"))] == ["row/0", "row/2"]
        assert run(["failures", "--reason", "gone", "--limit", "1"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("2 images ended as errors: 2 gone; 1 of them wait for others\n")
        assert ("row/0" in out, "row/2" in out) == (True, False)
        assert err == "only the first 1 are shown; ask for more with --limit\n"


@pytest.mark.parametrize("code", ["' OR true --", "GONE", "", "a" * 33, "gone\n"])
def test_a_code_cannot_become_part_of_the_query(node: Path, capsys: Capture, code: str) -> None:
    with ended(node, FAILED):
        assert run(["failures", "--reason", code]) == 2
    out, err = capsys.readouterr()
    assert (out, "docs/protocol.md" in err) == ("", True)


def test_nothing_to_tell(node: Path, capsys: Capture) -> None:
    with ended(node, [*ANYWHERE.setup, ANYWHERE.slice(ADA, 0, 0, 4)]):
        assert ok(capsys, "--json") == "[]\n"
        assert run(["failures"]) == 0
        assert capsys.readouterr() == ("", "no image ended as an error\n")
        assert run(["failures", "--reason", "gone"]) == 0
        assert capsys.readouterr() == ("", "no image ended as an error with the code gone\n")


def test_a_node_that_keeps_no_bodies_lists_them_without_reasons(node: Path, capsys: Capture) -> None:
    ids = [write.envelope.id for write in FAILED[-3:]]  # type: ignore[union-attr]
    with ended(node, [*FAILED, DropBodies(ids)]):
        rows = json.loads(ok(capsys, "--json"))
        assert [(row["key"], row["reason"]) for row in rows] == [(f"row/{n}", None) for n in range(3)] + [
            ("part/0", None)
        ]


def test_images_without_a_stored_list_are_named_by_their_place(node: Path, capsys: Capture) -> None:
    with ended(node, [ANYWHERE.setup[0], *FAILED[-3:]]):
        assert "\n0/1  " in ok(capsys)


def test_when_all_are_final_nobody_is_waited_for() -> None:
    assert summary([("gone", 2, 0)])[0] == "2 images ended as errors: 2 gone"


# the codes


NO_ROWS = {"unscorable"}
"""What an engine answers when it is asked to score an answer; no image ends so."""


def sources() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (ROOT / "p2pcap").rglob("*.py"))


def test_every_code_raised_is_known_as_lasting_or_passing() -> None:
    raised = re.findall(r'\b(ImageError|ImageUnavailable)\(\s*"([a-z0-9-]+)"', sources())
    raised = [(kind, code) for kind, code in raised if code not in NO_ROWS]
    assert {code for _, code in raised} <= set(CODES)
    assert {(code, kind == "ImageError") for kind, code in raised} <= {(c, CODES[c].lasting) for c in CODES}


def test_the_protocol_lists_the_codes_and_what_they_mean() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = page.split("### Error codes\n")[1].split("\n#")[0]
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| (\w+) \| (.+) \|$", section, flags=re.MULTILINE)
    assert listed == [(code, "lasting" if f.lasting else "passing", f.meaning) for code, f in CODES.items()]


@pytest.mark.parametrize("code", CODES)
def test_what_is_said_of_a_code_is_one_line_of_sentences(code: str) -> None:
    failure = CODES[code]
    assert re.fullmatch(r"[a-z0-9-]{1,32}", code)
    assert re.fullmatch(r"\S[^\n|`]*[^\n. ]", failure.meaning)
    assert re.fullmatch(r"[A-Z][^\n|`]*\.", failure.advice)


@pytest.mark.parametrize("code", CODES)
def test_no_advice_is_one_that_signing_refuses(code: str) -> None:
    """Where there are error rows the project was served, and its images and its task are what they are."""
    advice = CODES[code].advice
    assert "sign" not in advice
    changes = re.search(r"\b([Cc]orrect|smaller|lower|another prompt|leave it out|leave the image out)\b", advice)
    assert not changes or "in a new project" in advice
