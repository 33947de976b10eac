"""What a node says to people, line by line."""


class Passing(str):
    """A line on something that goes on, which the next one of its kind makes stale; whoever can rewrite a line, or
    shows the same from a snapshot, need not keep it."""
