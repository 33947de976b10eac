"""False answers made of honest ones, and honest ones from another machine."""

import random
from pathlib import Path

import pytest

from p2pcap.audit import cheats, honest_file
from p2pcap.audit.measuring import Captioned, Shown
from p2pcap.engine.base import Output
from p2pcap.errors import ConfigError

END = 2
TID = bytes(8)


def answer(text: str, *ids: int) -> Output:
    return Output(text, len(ids) + 1, "stop", (*ids, END))


ITEMS = [
    (answer("a red star", 5, 6, 7), answer("red", 5)),
    (answer("a blue cross", 5, 8, 9), answer("blue", 8)),
    (answer("a red star", 5, 6, 7), answer("red", 5)),
]


def test_a_false_item_is_never_the_honest_one() -> None:
    rng = random.Random(1)
    for made in (
        cheats.others(ITEMS),
        cheats.copied(ITEMS),
        cheats.truncated(ITEMS, rng),
        cheats.at_random(ITEMS, rng),
    ):
        assert len(made) == len(ITEMS)
        for item, ids in zip(ITEMS, made, strict=True):
            assert ids != [one.ids for one in item]
    assert cheats.others(ITEMS)[2] is None, "the next image has the same answers"
    assert cheats.copied([ITEMS[0]] * 40) == [None] * 40
    made = cheats.copied([(answer(f"picture {number}", number),) for number in range(100)])
    assert len({str(ids) for ids in made}) == 100, "each text once"


def test_a_truncated_answer_ends_as_the_honest_one_does() -> None:
    for item, ids in zip(ITEMS, cheats.truncated(ITEMS, random.Random(1)), strict=True):
        assert ids is not None
        assert 1 < len(ids[0]) < len(item[0].ids)
        assert ids[0][-1] == END
        assert ids[1] == item[1].ids, "only the longest answer is cut"


def test_one_word_of_a_text_is_changed() -> None:
    words = cheats.words_of(ITEMS, 0)
    assert list(words) == ["a", "blue", "cross", "red", "star"]
    assert words["a"] == sum(item[0].text.split().count("a") for item in ITEMS) > words["cross"]
    for seed in range(20):
        changed = cheats.edited("a red star", words, random.Random(seed))
        assert changed is not None
        own, other = ["a", "red", "star"], changed.split()
        assert sum(one != two for one, two in zip(own, other, strict=True)) == 1
    often = [cheats.edited("green", {"red": 99, "blue": 1}, random.Random(seed)) for seed in range(200)]
    assert often.count("red") > 180, "a word comes as often as in what is captioned"
    assert cheats.edited("", words, random.Random(1)) is None
    assert cheats.edited("star", {"star": 9}, random.Random(1)) is None


def captioned() -> list[Captioned]:
    return [Captioned(Shown(b"image %d" % number), item) for number, item in enumerate(ITEMS)]


def test_captions_of_another_machine_come_back_with_their_images(tmp_path: Path) -> None:
    items, path = captioned(), tmp_path / "other.json"
    honest_file.write(path, TID, b"c" * 8, "cuda NVIDIA H200", items)
    file = honest_file.read(path, TID)
    assert (file.device, file.engine_class) == ("cuda NVIDIA H200", (b"c" * 8).hex())
    images = {item.shown.sha256: item.shown for item in items[1:]}
    assert {item.shown.data for item in honest_file.join(file, images, 2)} == {b"image 1", b"image 2"}
    (one, *_) = honest_file.join(file, {items[1].shown.sha256: items[1].shown}, 2)
    assert [answer.ids for answer in one.answers] == [answer.ids for answer in ITEMS[1]]
    assert honest_file.join(file, images, 3) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "\\xff", '{"version": 2}', "[" * 100_000])
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no file of"):
        honest_file.read(path, TID)


def test_captions_of_another_task_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    honest_file.write(path, TID, b"c" * 8, "cpu", captioned())
    with pytest.raises(ConfigError, match="another task"):
        honest_file.read(path, b"t" * 8)
    with pytest.raises(ConfigError, match="cannot be read"):
        honest_file.read(tmp_path / "none.json", TID)
