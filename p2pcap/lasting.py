"""What lasts as long as its process, and what Python's garbage collector need not look at again and again.

A collection of everything stops the program: a node with a million captions for a fifth of a second, a terminal UI for
a sixteenth. Always holds: only what is in use at that moment is spared, and of what was spared before, that which is
in use no more is collected first.
"""

import atexit
import gc


def spare_what_lasts() -> None:
    """From now on no collection looks at what is in use now: programs call it once they have loaded what they keep."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


atexit.register(gc.unfreeze)  # at its end a process frees all it has, and DuckDB complains of what is left
