"""The form of an answer as project.yaml writes it, checked and made the record's.

Always holds: a format that was made here is one that engines can be held to: a schema that
p2pcap_bootstrap.schemas takes, a regular expression that both Python and an engine's grammar read alike, choices that
an answer can be.
"""

from pathlib import Path

from msgspec import UNSET

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, ConfigError
from p2pcap.project.sampling import Format
from p2pcap_bootstrap.patterns import FormatFault, check_pattern
from p2pcap_bootstrap.schemas import schema_text
from p2pcap_bootstrap.sections import MAX_LIST, FormatFile

MAX_LISTED = 200
"""Characters of a text in a list."""


def format_of(file: FormatFile, prompt: str, base: Path) -> Format | None:
    """The record, None for any text; a schema's path is taken from `base`. Raises ConfigError, which names `prompt`."""
    given = ["json"] if file.json else []
    given += [key for key in ("schema", "regex", "choice") if getattr(file, key) is not UNSET]
    given += ["list"] if file.list else []
    if len(given) > 1:
        raise ConfigError(f"The format of prompt {prompt} has {' and '.join(given)}. Keep one of them.")
    try:
        return decode(encode(_record(file, base)), Format, 1 << 20) if given else None
    except FormatFault as fault:
        raise ConfigError(f"The format of prompt {prompt}: {fault}") from fault
    except CodecError as error:
        raise ConfigError(f"The format of prompt {prompt} is beyond the protocol's limits: {error}") from error


def _record(file: FormatFile, base: Path) -> Format:
    """The record of the one key that is there."""
    if file.schema is not UNSET:
        return Format("schema", schema_text(file.schema, base))
    if file.regex is not UNSET:
        check_pattern(file.regex, "regex")
        return Format("regex", file.regex)
    if file.choice is not UNSET:
        return Format("choice", choices=_checked_choices(file.choice))
    if file.list:
        return Format("schema", _list_schema(MAX_LIST if file.list is True else file.list))
    return Format("json")


def _list_schema(most: int) -> str:
    """Of a JSON array of texts. They are bounded, so that a model that has lost its thread comes to an end."""
    texts = {"type": "string", "minLength": 1, "maxLength": MAX_LISTED}
    return schema_text({"type": "array", "items": texts, "minItems": 1, "maxItems": most}, Path())


def _checked_choices(choices: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(choices)) != len(choices):
        raise FormatFault("`choice` names one text twice. Leave it out once.")
    if any(choice != choice.strip() or not choice for choice in choices):
        raise FormatFault("A text of `choice` is empty or has blanks around it, which no answer has. Correct it.")
    return choices
