"""Which rows of the canonical table an export has, and why others are left out.

Always holds: each row of the table is either exported or counted under one reason.
"""

from dataclasses import dataclass

from p2pcap.export.sql import literal, literals

CHOSEN = "[i FOR i IN range(1, len(prompts) + 1) IF prompts[i] IN ({prompts})]"


@dataclass(frozen=True)
class Asked:
    """What to export. Empty tuples, None and False leave nothing out; a row must meet all conditions.

    `tasks` are ids in hex; `prompts` choose among each row's answers; `shards` are patterns (`*`, `?`, `[…]`) of the
    file that the image is a part of, whole or after a slash; `authors` are peer ids or public names; `tier` is the
    least one; `where` is SQL over the columns of `part` (p2pcap.store.parts). `limit` counts exported rows.
    """

    tasks: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    tier: int = 0
    verified: bool = False
    sealed: bool = False
    where: str = ""
    limit: int | None = None
    errors: bool = False

    @property
    def skip(self) -> str:
        """SQL: why the row is left out, or NULL."""
        reasons = [f"WHEN {condition} THEN {literal(reason)}" for reason, condition in self._reasons() if condition]
        return f"CASE {' '.join(reasons)} END" if reasons else "NULL::VARCHAR"

    def _reasons(self) -> list[tuple[str, str]]:
        return [
            ("of another task", _unless_in("task", self.tasks)),
            ("of another stage", _unless_in("stage", self.stages)),
            ("of another shard", f"({' AND '.join(map(_of_no_such_shard, self.shards))})" if self.shards else ""),
            ("by other authors", f"({_by_none(self.authors)})" if self.authors else ""),
            ("of a lower tier", f"tier < {self.tier}" if self.tier else ""),
            ("not verified", "NOT verified" if self.verified else ""),
            ("not sealed", "sealed IS NULL" if self.sealed else ""),
            ("errors", "" if self.errors else "error IS NOT NULL"),
            ("without such an answer", "error IS NULL AND len(texts) = 0" if self.prompts else ""),
            ("not meant by --where", f"(\n{self.where}\n) IS NOT TRUE" if self.where else ""),
        ]

    @property
    def rows(self) -> str:
        """SQL: the relation `part` with its answers cut down to those asked for, and the column `skip`."""
        part = f"(SELECT * REPLACE ({_cut(self.prompts)}) FROM part)" if self.prompts else "part"
        return f"(SELECT *, {self.skip} AS skip FROM {part})"


def _unless_in(column: str, values: tuple[str, ...]) -> str:
    return f"{column} NOT IN ({literals(values)})" if values else ""


def _of_no_such_shard(pattern: str) -> str:
    return f"(file IS NULL OR NOT (file GLOB {literal(pattern)} OR file GLOB {literal('*/' + pattern)}))"


def _by_none(authors: tuple[str, ...]) -> str:
    return f"author NOT IN ({literals(authors)}) AND author_name NOT IN ({literals(authors)})"


def _cut(prompts: tuple[str, ...]) -> str:
    """The lists of answers with the chosen ones alone, and what is made of them."""
    chosen = CHOSEN.format(prompts=literals(prompts))
    lists = [f"list_select({column}, {chosen}) AS {column}" for column in ("prompts", "texts", "counts", "finishes")]
    texts, names = f"list_select(texts, {chosen})", f"list_select(prompts, {chosen})"
    caption = f"{texts}[1] AS caption"
    answers = f"CASE WHEN error IS NULL THEN map({names}, {texts}) END AS answers"
    return ", ".join([*lists, caption, answers])
