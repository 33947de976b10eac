"""Text as parts of SQL.

Always holds: whatever the text, it stays one literal or one name.
"""


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: tuple[str, ...]) -> str:
    """String literals with commas between."""
    return ", ".join(map(literal, texts))


def name(text: str) -> str:
    """A quoted identifier."""
    return '"' + text.replace('"', '""') + '"'
