"""The keys in the docs are those of the bindings, and no two of them clash where they meet."""

from collections import Counter

import pytest

from p2pcap_tui.app import TerminalUI
from p2pcap_tui.keys import PAGE, everywhere, keys_of, table, view_keys, written
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.state import STATES
from p2pcap_tui.views import VIEWS
from p2pcap_tui.views.base import View


def test_the_page_has_the_keys_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "run: python -m p2pcap_tui.keys"
    assert table() in page


def test_the_page_has_every_screen_and_state() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"**{view.TITLE}**" in page for view in VIEWS)
    assert all(f"| `{glyph}` | {word} |" in page for word, (glyph, _) in STATES.items())


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.NAME)
def test_no_key_of_a_view_hides_one_that_works_everywhere(view: type[View]) -> None:
    own = [key for one in view_keys(view) for key in one.keys.split(", ")]
    assert not [key for key, times in Counter(own).items() if times > 1]
    shared = {key for one in everywhere() for key in one.keys.split(", ")}
    assert not set(own) & shared - {"Enter"}


def test_views_have_a_digit_each_in_order() -> None:
    digits = [view.DIGIT for view in VIEWS]
    assert digits == sorted(set(digits))
    assert {key.keys for key in keys_of(TerminalUI.BINDINGS)} >= set(digits)
    assert all(one.what for one in keys_of(RowsTable.BINDINGS))
