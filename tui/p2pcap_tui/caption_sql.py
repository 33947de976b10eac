"""The SELECTs of the screen of captions.

It shows a few hundred rows out of millions, so each SELECT first finds these, and only then joins them with everything
else. Measured with a million captions: 35 ms for the newest, 250 ms for a text that is in none of them.

Always holds: what a person typed is in them as a literal (p2pcap_tui.sql_text) and nothing else; each is one SELECT
with a LIMIT. The tables are those of docs/sql.md.
"""

from p2pcap_tui.sql_text import like

SHOWN = 300
"""Captions that are listed."""

NEWEST = 24
"""Results among whose rows the newest captions are looked for: five times SHOWN, as some rows do not count."""

KEPT = "len(c.texts) + len(c.error) > 0"
"""Rows that are kept on this node."""

ROWS = f"""
SELECT i.key, c.chunk, c.item, lower(hex(coalesce(nullif(i.hash, ''::BLOB), c.image))) AS image, t.stage,
    t.prompts, c.texts, c.error, c.reason, a.name AS author_name, a.peer_id AS author, b.time, r.sealed,
    (r.confirmed >> (c.item - b.first)) & 1 = 1 AS "right", (r.failed >> (c.item - b.first)) & 1 = 1 AS wrong,
    EXISTS (SELECT 1 FROM superseded s WHERE s.no = c.no AND s.item = c.item) AS superseded, i.url, i.file
FROM found c JOIN batch b USING (no) JOIN task t USING (task_no) JOIN author a USING (author_no)
    JOIN standing r USING (no) LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item
ORDER BY b.time DESC, c.no DESC, c.item DESC LIMIT {SHOWN}"""
"""Of candidates `found`: what the screen tells of each, in the order of p2pcap_tui.caption_words.Caption."""


def newest() -> str:
    """The newest rows, by their authors' clocks."""
    return f"""
WITH late AS (SELECT no FROM batch ORDER BY time DESC, no DESC LIMIT {NEWEST}),
found AS (SELECT c.* FROM candidate c WHERE c.no IN (SELECT no FROM late) AND {KEPT}){ROWS}"""


def matching(text: str) -> str:
    """The rows with `text` in an answer, the image's key or the author's name, those that came last."""
    found = like(text)
    return f"""
WITH found AS (
    SELECT c.* FROM candidate c WHERE {KEPT} AND (
        array_to_string(c.texts, chr(10)) {found}
        OR (c.chunk, c.item) IN (SELECT (chunk, item) FROM item WHERE key {found})
        OR c.no IN (SELECT no FROM batch JOIN author USING (author_no) WHERE name {found}))
    ORDER BY c.no DESC, c.item DESC LIMIT {SHOWN}){ROWS}"""


def select(sought: str) -> str:
    """What the screen shows while `sought` is looked for."""
    return matching(sought) if sought else newest()
