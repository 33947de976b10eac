"""Options that are finite numbers: where click compares, "nan" is in every range, and nothing can be done with it."""

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number within bounds, and neither "nan" nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails as misuse when it is none, not finite, or out of the range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not finite.", param, ctx)
        return number
