"""Where a configuration file is looked for, and what YAML may say: one sentence for everything it may not."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap import config, paths
from p2pcap.config import COMPONENTS, Found, discover, nowhere
from p2pcap.errors import ConfigError
from p2pcap.yaml_file import MAX_FILE, MAX_VALUES, compose, construct, line_at, nearest, read_text
from tests.conftest import NOBODY

FILE = Path("node.yaml")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every place for a node.yaml, in the order they count; none is there yet."""
    folders = {name: tmp_path / name for name in ("here", "home", "config", "etc", "first", "second")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.chdir(folders["here"])
    monkeypatch.setenv("HOME", str(folders["home"]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders["config"]))
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{folders['first']}:relative::{folders['second']}")
    monkeypatch.setattr(config, "SYSTEM", folders["etc"])
    rest = [folders[name] / "p2pcap" / FILE for name in ("config", "etc", "first", "second")]
    return [folders["here"] / FILE, folders["home"] / ".p2pcap" / FILE, *rest, folders["here"] / "examples" / FILE]


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_place_wins_and_each_counts_where_no_earlier_one_has_a_file(places: list[Path]) -> None:
    assert discover("node") is None
    for place in reversed(places):
        write(place)
        found = discover("node")
        assert found is not None
        assert found.path == place
        assert found.here is (place in (places[0], places[-1]))
        assert found.example is (place == places[-1])
        assert str(place) in found.told
    assert discover("tui") is None


def test_an_example_in_use_is_a_warning_that_says_what_to_do(places: list[Path]) -> None:
    write(places[-1])
    found = discover("node")
    assert found is not None
    assert found.told == f"warning: the example {places[-1]} is in use. Copy it to ./node.yaml and make it your own."


def test_a_file_that_is_named_goes_before_all_places(places: list[Path], tmp_path: Path) -> None:
    for place in places:
        write(place)
    assert discover("node", tmp_path / "mine.yaml") == Found("node", tmp_path / "mine.yaml")
    assert discover("node", Path("mine.yaml")) == Found("node", places[0].parent / "mine.yaml")
    assert discover("node", Path("~/mine.yaml")) == Found("node", tmp_path / "home" / "mine.yaml")
    with pytest.raises(ConfigError, match="no such user"):
        discover("node", Path("~nobody.here/mine.yaml"))


def test_dev_null_stands_for_no_file(places: list[Path]) -> None:
    write(places[0])
    assert discover("node", Path("/dev/null")) is None


def test_variables_that_are_empty_or_relative_do_not_count(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home, etc = places[1].parents[1], places[3].parents[1]
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        monkeypatch.setenv("XDG_CONFIG_DIRS", value)
        default = [place.path for place in config.places("node")]
        assert default == [
            FILE, places[1], home / ".config/p2pcap/node.yaml", places[3], etc / "xdg/p2pcap/node.yaml",
            Path("examples/node.yaml"),
        ]  # fmt: skip


def test_without_a_home_the_other_places_count(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path | str) -> Path:
        raise ConfigError("there is no home")

    monkeypatch.setattr(config, "expanded", no_home)  # as for a user without HOME who is in no list of users
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert [place.path for place in config.places("node")] == [FILE, *places[3:-1], Path("examples") / FILE]
    write(places[3])
    assert discover("node") == Found("node", places[3])


def test_when_nothing_is_found_every_place_is_named(places: list[Path]) -> None:
    for component in COMPONENTS:
        told = nowhere(component)
        assert told.startswith(f"There is no {component}.yaml")
        assert told.endswith(
            "the folder that holds it, or the file with --config."
            if component == "project"
            else "Name one with --config."
        )
        assert all(str(place.path) in told for place in config.places(component))


def test_a_link_to_nowhere_is_found_and_hides_no_mistake(places: list[Path]) -> None:
    places[0].symlink_to("gone.yaml")
    write(places[1])
    found = discover("node")
    assert found is not None
    assert found.path == places[0]
    with pytest.raises(ConfigError, match="There is no"):
        read_text(found.path)


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("by", ["mode", "owner", "link"])
def test_a_strangers_file_in_the_current_folder_is_refused(places: list[Path], by: str, number: int) -> None:
    place = write(places[number])
    if by != "mode" and os.geteuid() != 0:
        pytest.skip("only root may give a file to somebody else")
    if by == "mode":
        place.chmod(0o666)
    elif by == "owner":
        os.chown(place, NOBODY, NOBODY)
    else:
        place.rename(place.with_name("mine.yaml"))
        place.symlink_to("mine.yaml")
        os.lchown(place, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="another user, or everybody may write it"):
        discover("node")
    assert discover("node", place) == Found("node", place)


def test_a_current_folder_that_was_removed_is_one_sentence(places: list[Path]) -> None:
    places[0].parent.rmdir()
    assert discover("node") is None
    write(places[1])
    assert discover("node") == Found("node", places[1])
    with pytest.raises(ConfigError, match="current folder is gone"):
        discover("node", Path("mine.yaml"))


# reading


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    text = "name: Ada\n# naïve\n"
    assert read_text(write(tmp_path / FILE, text)) == text
    (tmp_path / "link.yaml").symlink_to(FILE)
    assert read_text(tmp_path / "link.yaml") == text


def test_a_file_that_is_no_text_of_a_person_is_one_sentence(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.touch()
    os.truncate(huge, 100_000_000)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to("loop.yaml")
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    (tmp_path / "latin.yaml").write_bytes("name: Zo\u00eb".encode("latin-1"))
    says = {
        huge: f"over {MAX_FILE} bytes",
        loop: "levels of symbolic links",
        pipe: "no file of another kind",
        tmp_path: "is a folder",
        Path("/dev/zero"): "no file of another kind",
        tmp_path / "latin.yaml": "byte 8 is not UTF-8",
        tmp_path / "gone.yaml": "There is no",
        tmp_path / ("x" * 300): "too long",
        tmp_path / "a\0b": "cannot be read",
    }
    for path, text in says.items():
        with pytest.raises(ConfigError, match=text) as caught:
            read_text(path)
        assert "\n" not in str(caught.value)


def test_a_file_in_a_closed_folder_is_one_sentence(closed: Path) -> None:
    with pytest.raises(ConfigError, match=r"Permission denied\. Check its name, its owner and its mode"):
        read_text(closed / FILE)


def test_a_file_of_the_greatest_size_is_read(tmp_path: Path) -> None:
    assert len(read_text(write(tmp_path / FILE, "#" * MAX_FILE))) == MAX_FILE


def plain(text: str) -> object:
    return construct(compose(text, FILE), FILE)


def test_values_are_what_yaml_says(tmp_path: Path) -> None:
    assert plain("") is None
    assert plain("# nothing\n") is None
    assert plain("1: a\n'1': b\n") == {1: "a", "1": "b"}
    assert plain("\ufeffa: 1\nb: [x, 2.5, true, ~]\n") == {"a": 1, "b": ["x", 2.5, True, None]}
    assert plain("a: &all {x: 1}\nb: {<<: *all, y: 2}\nc: *all\n") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1},
    }


def test_lines_are_counted_from_one() -> None:
    root = compose("\n# a comment\na:\n  - 1\n", FILE)
    assert root is not None
    assert line_at(root) == 3
    assert line_at(root.value[0][1]) == 4


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, f"over {MAX_VALUES} values"),
        ("a: &a\n  - 1\n  - *a\n", "line 1: an alias stands for what it is in"),
        ("a: &a {b: *a}\n", "line 1: an alias stands for what it is in"),
        ("a: 1\nb: 2\na: 3\n", "line 3: `a` is given a second time, after line 1"),
        ("a: 1\na: 2\na: 3\n", "line 2: `a` is given a second time, after line 1"),
        ("{a: 1, a: 2}", "line 1: `a` is given a second time"),
        ("a:\n  b: {c: 1}\n  b: 1\n", "line 3: `b`"),
        ("a: [", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("\tx: 1", "is not YAML"),
        ("a: \x07", "is not YAML"),
        ("a: *nothing", "is not YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        ("{[1]: 2}", "is not YAML"),
        ("a: 2020-13-45", "2020-13-45 cannot be read as timestamp; a text goes in quotes"),
        ("[" * 5_000, "nested too deep"),
        ("a: " + "{b: " * 5_000, "nested too deep"),
    ],
    ids=range(17),
)
def test_what_yaml_may_not_say_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plain(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("node.yaml")
    assert "\n" not in str(caught.value)


def test_aliases_up_to_the_limit_are_fine() -> None:
    shared = ["shared: &shared {a: 1, b: 2}", *(f"k{number}: *shared" for number in range(1_000))]
    assert len(plain("\n".join(shared))) == 1_001  # type: ignore[arg-type]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner), max_leaves=20
    )
)
def test_whatever_is_written_is_read_again(value: object) -> None:
    import yaml

    assert plain(yaml.safe_dump({"value": value}, allow_unicode=True)) == {"value": value}


@given(st.text(alphabet="ab:-[]{}&*!|>#%@`\"' \n\t\u00e9\0", max_size=60))
def test_no_text_leads_to_anything_but_values_or_a_sentence(text: str) -> None:
    with suppress(ConfigError):
        plain(text)


def test_the_nearest_word_is_one_that_is_near() -> None:
    assert nearest("gpu-memry", ["gpus", "gpu-memory"]) == "gpu-memory"
    assert nearest("gpu-memry", ["listen"], ["gpu-memory"]) == "gpu-memory"
    assert nearest("zzz", ["gpus"]) == ""


def test_homes_that_are_not_there_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.expanded("~/x") == Path.home() / "x"
    for text in ("~nobody.here", "~nobody.here/x", "a\0b"):
        with pytest.raises(ConfigError):
            paths.expanded(text)
