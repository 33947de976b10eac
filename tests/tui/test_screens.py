"""Every screen looks as it did: in plain text at three sizes. `python -m tests.tui.screens` writes them anew."""

import asyncio

import pytest

from tests.tui.screens import NAMES, PICTURE, SIZES, picture_file, screen, text_file


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", NAMES)
def test_a_screen_looks_as_it_did(name: str, size: tuple[int, int]) -> None:
    lines, _ = asyncio.run(screen(name, size))
    assert len(lines) == size[1]
    assert lines == text_file(name, size).read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_pictures_in_the_docs_are_of_these_screens(name: str) -> None:
    _, picture = asyncio.run(screen(name, PICTURE))
    assert picture == picture_file(name).read_text(encoding="utf-8")
