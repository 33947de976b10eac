"""Texts and numbers inside SQL: the control socket takes a statement and no values beside it.

Always holds: whatever a person types stays one literal. In DuckDB a string ends at a quotation mark that is not
doubled, and nothing else in it means anything; NUL cannot be part of one.
"""


def literal(text: str) -> str:
    """`text` as SQL. Characters that no text in a database has (NUL, halves of surrogate pairs) are left out."""
    kept = "".join(letter for letter in text if letter != "\0" and not "\ud800" <= letter <= "\udfff")
    return "'" + kept.replace("'", "''") + "'"


def like(text: str) -> str:
    """A condition's right side that finds `text` anywhere, capitals or not, with no letter meaning anything else."""
    for letter in "\\%_":
        text = text.replace(letter, "\\" + letter)
    return f"ILIKE {literal(f'%{text}%')} ESCAPE '\\'"
