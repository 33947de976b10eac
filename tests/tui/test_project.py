"""The screen of the project: what is signed, and on the maintainer's machine what is not."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot

from p2pcap.errors import ConfigError, FrameError, P2pcapError
from p2pcap.node.manifest_info import KeyDetail, ManifestInfo, PromptDetail
from p2pcap.node.manifest_view import describe
from p2pcap_tui import maintainer
from p2pcap_tui.feed import OTHER_VERSION, Arrived
from p2pcap_tui.maintainer import folder_of
from p2pcap_tui.project_words import Folder, commands, diff_lines, fingerprint, folded, project_page
from p2pcap_tui.words import Line, painted
from tests.audited import audited
from tests.tui.canned import HOSTILE, canned_ui, piloted, press, snapshot
from tests.tui.stored import Twin
from tests.unit.store_project import sample

FOUND = describe(sample().project)
NOW = FOUND.created + 10.0


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def page(found: ManifestInfo = FOUND, now: float = NOW, folder: Folder | None = None, width: int = 120) -> str:
    return text_of(project_page(found, snapshot(), now, folder, width))


def test_the_page_says_what_is_signed_by_whom_and_until_when() -> None:
    text = page()
    assert fingerprint(FOUND.id) in text
    assert f"v1 of 2027-01-15, signed by …{FOUND.signed_by[-8:]}  ✓ holds until 2027-05-11" in text
    assert "whoever has an invitation" in text
    assert "describe?  (up to 256 tokens)" in text
    assert "none given: ask the maintainer" in text
    assert "! nobody checks its captions" in text
    assert "your captions with the key and the name you chose" in text
    assert "Maintainer" not in text


def test_what_ends_is_warned_of() -> None:
    assert "✗ EXPIRED on 2027-05-11" in page(now=FOUND.expires + 1)
    assert "! in 1d 0h: the maintainer must sign it again" in page(now=FOUND.expires - 86_400)
    assert "must sign" not in page(now=FOUND.expires - 30 * 86_400)
    dated = msgspec.structs.replace(FOUND, deadline=int(NOW), paused=True)
    assert "! passed on 2027-01-15: no new work is begun" in page(dated, NOW + 1)
    assert "! all of it, by the maintainer" in page(dated)
    far = msgspec.structs.replace(FOUND, expires=2**62)
    assert "a day far off" in page(far)


def test_how_captions_are_checked_is_said() -> None:
    text = page(describe(audited((64,)).project))
    assert "by tokens: 0 of 5000 honest items called bad; a ban takes 4" in text


def test_keys_rules_and_prompts_that_are_not_as_usual() -> None:
    (stage,) = FOUND.stages
    prompts = (PromptDetail("describe", HOSTILE, HOSTILE, 60, 0.7, False),)
    stages = (msgspec.structs.replace(stage, prompts=prompts, needs=("tags",), paused=True, revision="ab" * 20),)
    found = msgspec.structs.replace(
        FOUND, keys=(KeyDetail("root", 2, ("a" * 52, "b" * 52)),), former_keys=("c" * 52,), hosts=("10.0.0.1",),
        robots=False, bans=False, peer_audits=0, former=2, title="Another", description=HOSTILE, stages=stages,
        wait_for_engines=3,
    )  # fmt: skip
    plain = painted(project_page(found, None, NOW, None, 120)).plain
    for part in (
        "2 of 2: …", "Former keys", "10.0.0.1", "robots.txt is not asked", "nobody is banned without", "@abababababab",
        "2 tasks of earlier manifests", "(called Another now)", "begins with 3 engines", "none by volunteers",
        "! paused", "temperature 0.7, without the image",
    ):  # fmt: skip
        assert part in plain, part
    assert not {"\x1b", "\x07", "\u202e"} & set(plain)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_are_folded_below_their_text(width: int) -> None:
    line: Line = [(f" {'Label':<16}", "dim"), ("word " * 30, ""), ("x" * 100, "bad"), ("\x1b[2J", "")]
    lines = folded(line, width)
    assert all(len("".join(text for text, _ in one)) <= width for one in lines)
    joined = "".join(text for one in lines for text, _ in one[1:])
    assert joined.count("word") == 30
    assert joined.count("x") == 100
    assert all(one[0][0] == " " * (17 if width >= 60 else 3) for one in lines[1:])


def test_before_the_project_is_here() -> None:
    assert "waiting for the project" in text_of(project_page(None, None, NOW, None))


def workspace(path: Path, id_: str) -> Path:
    """What a maintainer's folder looks like from outside."""
    for part in ("keys", "signed", "node"):
        (path / part).mkdir(parents=True)
    (path / "project.yaml").write_text("title: Shapes")
    (path / "keys" / "coordinator.key").write_text("")
    (path / "signed" / "manifest.cbor").write_bytes(b"\xa1am" + bytes.fromhex(id_)[:8] + b"rest")
    return path


def test_the_maintainers_folder_is_found_beside_his_node_or_where_one_is(tmp_path: Path) -> None:
    now, there = snapshot(), workspace(tmp_path / "cats", snapshot().project.id)
    elsewhere = tmp_path / "elsewhere"
    coordinator = msgspec.structs.replace(
        now, node=msgspec.structs.replace(now.node, role="coordinator", directory=str(there / "node"))
    )
    expected = Folder(str(there), ("coordinator",))
    assert folder_of(coordinator, elsewhere) == expected
    assert folder_of(now, there) == expected
    assert folder_of(now, elsewhere) is None
    other = workspace(tmp_path / "dogs", "cd" * 32)
    assert folder_of(now, other) is None, "that folder is of another project"


def test_the_commands_are_one_word_a_path() -> None:
    told = dict(commands(Folder("/home/me/my cats; rm -rf ~", ())))
    assert "p2pcap project sign '/home/me/my cats; rm -rf ~'" in told


def test_the_screen_asks_for_the_manifest_once(tmp_path: Path) -> None:
    twin = Asked()
    ui = canned_ui(client=twin)

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "8")
        assert "tiny-shapes" in text
        ui.post_message(Arrived(snapshot()))
        await press(pilot)
        assert twin.times == 1
        newer = msgspec.structs.replace(snapshot().project, manifest=8)
        ui.post_message(Arrived(snapshot(project=newer)))
        await press(pilot)
        assert twin.times == 2
        await press(pilot, "d")
        assert ["folder is not on this machine" in one.message for one in ui._notifications] == [True]

    piloted(ui, use)


def test_a_node_without_a_project_is_asked_again() -> None:
    twin = Asked()
    twin.error = ConfigError("The node has not got its project yet.")
    ui = canned_ui(client=twin)

    async def use(pilot: Pilot[None]) -> None:
        assert "waiting for the project" in await press(pilot, "8")
        twin.error = None
        ui.post_message(Arrived(snapshot()))
        assert "tiny-shapes" in await press(pilot)

    piloted(ui, use)


def test_a_question_that_was_broken_off_is_asked_again() -> None:
    twin = Asked()
    ui = canned_ui(client=twin)

    async def use(pilot: Pilot[None]) -> None:
        ui.action_open("project")  # its worker has not begun
        ui.action_open("overview")
        assert "tiny-shapes" in await press(pilot, "8")

    piloted(ui, use)


def test_a_node_of_another_version_is_said_to_be_so_once() -> None:
    twin = Asked()
    twin.error = FrameError(OTHER_VERSION)
    ui = canned_ui(client=twin)

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "8")
        ui.post_message(Arrived(snapshot()))
        await press(pilot)
        assert [one.message for one in ui._notifications] == [OTHER_VERSION]
        assert twin.times == 1

    piloted(ui, use)


def test_d_runs_the_maintainers_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = workspace(tmp_path / "cats", snapshot().project.id)
    monkeypatch.chdir(there)
    (there / "p2pcap").mkdir()  # whoever made this folder may have put programs into it
    (there / "p2pcap" / "__init__.py").touch()
    (there / "p2pcap" / "__main__.py").write_text("print('run by a folder')")
    ui = canned_ui(client=Twin())

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "8")
        text = await press(pilot, "end", "d", "end")
        assert "Not signed yet" in text
        assert "run by a folder" not in text
        assert "p2pcap project publish" in text
        await press(pilot, "y")
        assert ui.clipboard == f"p2pcap project sign {there}"

    piloted(ui, use, (140, 60))


def test_a_diff_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintainer, "DIFF_WITHIN", 0.0)
    said, code = asyncio.run(maintainer.diff(Folder(str(tmp_path), ())))
    assert (code, "Run it in a shell" in said) == (1, True)


def test_what_a_diff_says() -> None:
    assert "nothing would change" in text_of(diff_lines("", 0))
    assert diff_lines("stage a: new\n\nimages: 3", 0)[2:] == [[("   stage a: new", "")], [("   images: 3", "")]]
    assert diff_lines("no", 1)[2] == [("   no", "bad")]


class Asked(Twin):
    """Counts how often the manifest was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.error: P2pcapError | None = None

    def manifest(self) -> bytes:
        self.times += 1
        if self.error is not None:
            raise self.error
        return super().manifest()
