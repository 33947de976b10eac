"""Configurations and splits, compared with what the library `datasets` makes of the same files."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.errors import ConfigError
from p2pcap.sources.splits import MAX_WILD, chosen, is_data, matches, usual

FOLDERS = ("", "train/", "a/Train/", "test-set/", "my_val/", "data/", "deep/dev 2/x/", "evaluation.1/", "untrained/")
NAMES = (
    "train.csv",
    "x-train.0.csv",
    "validation_1.csv",
    "testing.csv",
    "train-00000-of-00002.csv",
    "train-00001-of-00002-abc.csv",
    "odd name-00000-of-00001.csv",
    "mytrain.csv",
    "eval.csv",
    "plain.csv",
)


def card(**configs: object) -> bytes:
    listed = [{"config_name": name, **entry} for name, entry in configs.items()]  # type: ignore[dict-item]
    return f"---\nlicense: mit\n{yaml.safe_dump({'configs': listed})}---\n# A data set\n".encode()


@settings(max_examples=40, deadline=None)
@given(paths=st.sets(st.builds("".join, st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES))), min_size=1))
def test_usual_names_are_those_of_the_library(tmp_path_factory: pytest.TempPathFactory, paths: set[str]) -> None:
    from datasets.data_files import get_data_patterns, resolve_pattern

    root = tmp_path_factory.mktemp("set")
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    try:
        theirs = get_data_patterns(str(root))
    except ValueError:  # it refuses a shard's split that is no name; here it is one like others
        return
    found = {split: _resolved(resolve_pattern, patterns, root) for split, patterns in theirs.items()}
    assert usual(sorted(paths)) == found


def _resolved(resolve: object, patterns: list[str], root: Path) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            found |= {str(Path(path).relative_to(root)) for path in resolve(pattern, str(root))}  # type: ignore[operator]
        except FileNotFoundError:
            continue
    return found


PATTERNS = ("*.csv", "**/*.csv", "data/**", "**", "data/*/x.csv", "d?ta/[ab].csv", "**/b/**", "data/**/x.csv", "a.csv")
PATHS = ("a.csv", "data/a.csv", "data/b/x.csv", "data/x.csv", "data/b/c/x.csv", "b/a.csv", "x.csv", "data/b.csv")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_what_the_library_matches(tmp_path: Path, pattern: str) -> None:
    from datasets.data_files import resolve_pattern

    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    ours = {path for path in PATHS if matches(pattern, path)}
    assert ours == _resolved(resolve_pattern, [pattern], tmp_path) != set()


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("*a" * 100 + "b", "a" * 4_000)
    assert not matches("**/a/" * 200 + "b", "a/" * 400 + "c")


def test_only_the_default_configuration_without_a_name() -> None:
    paths = ["README.md", "small/a.csv", "big/a.csv", "big/b.csv"]
    text = card(big={"data_files": "big/*"}, small={"data_files": "small/*", "default": True})
    assert chosen(text, paths, "", "") == {"small/a.csv"}
    assert chosen(text, paths, "big", "") == {"big/a.csv", "big/b.csv"}
    with pytest.raises(ConfigError, match=r"no configuration 'huge'; it has big, small"):
        chosen(text, paths, "huge", "")
    with pytest.raises(ConfigError, match=r"several configurations.*big, small"):
        chosen(card(big={"data_files": "big/*"}, small={"data_files": "small/*"}), paths, "", "")


@pytest.mark.parametrize(
    "files",
    [
        {"train": "a/*.csv", "test": ["b/x.csv", "c/**"]},
        [{"split": "train", "path": "a/*.csv"}, {"split": "test", "path": ["b/x.csv", "./c/**"]}],
    ],
)
def test_all_forms_of_data_files(files: object) -> None:
    paths = ["a/1.csv", "a/2.txt", "b/x.csv", "b/y.csv", "c/d/e.csv", "c/.hidden.csv"]
    text = card(default={"data_files": files})
    assert chosen(text, paths, "", "train") == {"a/1.csv"}
    assert chosen(text, paths, "", "test") == {"b/x.csv", "c/d/e.csv"}
    assert chosen(text, paths, "", "") == {"a/1.csv", "b/x.csv", "c/d/e.csv"}
    with pytest.raises(ConfigError, match=r"no split 'dev'; it has test, train"):
        chosen(text, paths, "", "dev")


def test_a_configuration_may_be_a_folder_with_usual_names() -> None:
    paths = ["en/train/a.csv", "en/test/b.csv", "de/train/c.csv", "train/d.csv"]
    text = card(en={"data_dir": "en"}, de={"data_dir": "de", "data_files": "train/*"})
    assert chosen(text, paths, "en", "train") == {"en/train/a.csv"}
    assert chosen(text, paths, "en", "") == {"en/train/a.csv", "en/test/b.csv"}
    assert chosen(text, paths, "de", "") == {"de/train/c.csv"}


def test_without_a_card_all_files_but_those_of_tools() -> None:
    paths = [".gitattributes", "README.md", "__pycache__/a.csv", "a/.b/c.csv", "x.csv", "dataset_infos.json"]
    assert chosen(b"no front matter", paths, "", "") == {"x.csv"}
    assert chosen(b"", paths, "default", "train") == {"x.csv"}
    assert not is_data(".x/y")
    with pytest.raises(ConfigError, match="none"):
        chosen(b"", paths, "other", "")


BOMB = "---\na: &a [x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    "text",
    [
        b"---\nconfigs: [\n---\n",
        b"---\nconfigs: 7\n---\n",
        b"---\nconfigs:\n- x\n---\n",
        b"---\nconfigs:\n- data_files: a\n---\n",
        b"---\n[1]\n---\n",
        card(a={"data_files": 7}),
        card(a={"data_files": [["nested"]]}),
        card(a={"data_files": "https://elsewhere.example/x.csv"}),
        card(a={"data_files": [{"path": "x"}]}),
        card(a={"data_files": ["x"] * 20_001}),
        b"---\nconfigs: " + b"[" * 100_000 + b"\n---\n",
        b"---\nconfigs: !!python/object/apply:os.system ['true']\n---\n",
        (BOMB + "configs:\n- config_name: a\n  data_files: *u\n---\n").encode(),
    ],
)
def test_cards_that_cannot_be_read_are_named_as_such(text: bytes) -> None:
    with pytest.raises(ConfigError, match=r"Name the files in images\.source instead"):
        chosen(text, ["a.csv"], "", "")


def test_a_card_with_too_many_patterns_is_refused() -> None:
    with pytest.raises(ConfigError, match="patterns"):
        chosen(card(a={"data_files": [f"{n}*" for n in range(MAX_WILD + 1)]}), ["a.csv"], "", "")


def test_another_configuration_may_be_broken() -> None:
    text = card(good={"data_files": "a.csv", "default": True}, bad={"data_files": 7})
    assert chosen(text, ["a.csv", "b.csv"], "", "") == {"a.csv"}
