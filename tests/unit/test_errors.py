"""The drawn tree of errors is the real one."""

import inspect

from p2pcap import errors
from p2pcap.errors import ImageError, P2pcapError


def drawn() -> dict[str, str]:
    """Each name in the drawing, with the name it hangs under."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        stem = line.lstrip(" │├└─")
        if not line.startswith("    ") or not stem:
            continue
        depth, name = len(line) - len(stem), stem.split()[0]
        while above and above[-1][0] >= depth:
            above.pop()
        parents[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    return parents


def test_the_drawing_is_the_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in kinds}
    assert drawn() == real


def test_an_image_error_carries_code_and_reason() -> None:
    error = ImageError("empty", "The file has no bytes.")
    assert (error.code, error.reason) == ("empty", "The file has no bytes.")
    assert str(error) == "empty: The file has no bytes."
    assert isinstance(error, P2pcapError)
