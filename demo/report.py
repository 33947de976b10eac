"""What the demo prints at its end: captions beside the truth, who made how much, how fast; and whether it holds.

Keys, names and captions are strangers' text. Always holds: no control character of theirs reaches the terminal.
"""

import json
from collections import Counter
from pathlib import Path

LEAST_SHARE = 0.2
"""Each of the two volunteers makes at least this share of the drawn pictures; own folders may be too small for it."""

SHOWN = 8


def clean(text: str) -> str:
    """`text` on one line, fit for a terminal, as `p2pcap` itself prints it."""
    return "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or letter.isprintable())


def read_rows(path: Path) -> list[dict[str, object]]:
    """The exported rows."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_truth(path: Path, prompt: str) -> dict[str, str]:
    """The right caption of each image, by its path."""
    with path.open(encoding="utf-8") as file:
        return {row["path"]: row["captions"][prompt] for row in map(json.loads, file)}


def describe(rows: list[dict[str, object]], truth: dict[str, str], seconds: float) -> list[str]:
    """The report's lines. `seconds` is from the first claim to the last row."""
    captions = [row for row in rows if not row["error"]]
    lines = [_example(row, truth) for row in _spread(captions)]
    lines += ["", f"{len(rows)} images, {len(captions)} captions, {len(rows) - len(captions)} errors"]
    if truth:
        right = sum(row["caption"] == truth.get(str(row["key"])) for row in rows)
        lines.append(f"exactly right: {right} of {len(rows)} ({100 * right / len(rows):.1f} %)")
    for author, count in Counter(clean(str(row["author_name"] or row["author"])) for row in rows).most_common():
        lines.append(f"  {author:<12} {count:>6} rows ({100 * count / len(rows):.1f} %)")
    lines.append(f"captioning took {seconds:.1f} s: {len(rows) / seconds:.1f} images/s")
    return lines


def faults(rows: list[dict[str, object]], drawn: int, truth: dict[str, str]) -> list[str]:
    """What did not come out as promised; empty when all is well.

    `drawn` pictures were drawn for this run; 0 for a folder of the user's own, where nobody knows the number and one
    volunteer may well make it all. `truth` is empty where the model cannot know it.
    """
    found = []
    images = drawn or len(rows)
    if len({row["key"] for row in rows}) != images or len(rows) != images:
        found.append(f"{len(rows)} rows for {images} images")
    shares = Counter(row["author"] for row in rows)
    if drawn and (len(shares) < 2 or min(shares.values()) < LEAST_SHARE * len(rows)):
        found.append(f"a volunteer made less than {100 * LEAST_SHARE:.0f} % of the rows")
    if truth and sum(row["caption"] == truth.get(str(row["key"])) for row in rows) < 0.95 * len(rows):
        found.append("fewer than 95 % of the captions are exactly right")
    return found


def _spread(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    step = max(1, len(rows) // SHOWN)
    return rows[::step][:SHOWN]


def _example(row: dict[str, object], truth: dict[str, str]) -> str:
    key, caption = str(row["key"]), str(row["caption"])
    line = f"  {clean(key)}: {clean(caption)}"
    if key not in truth:
        return line
    mark = "=" if caption == truth[key] else "≠"
    return f"{line}\n  {'truth':>{len(key)}} {mark} {truth[key]}"
