"""Amounts as people read them: bytes, and lengths of time."""


def size(count: float) -> str:
    """A number of bytes in a unit that fits: "512 B", "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1_000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: "3d 4h", "2m 10s", "7s"."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or parts or size == 1:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
