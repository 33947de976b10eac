"""Why an image ends without a caption: every code that an error row of this version may carry.

An error row exists only once a project was served, and then its images and its task stay as they are
(docs/maintainer.md, Changing a project). So what has to be corrected is corrected for a new project.

Strangers sign error rows, and other versions have other codes; so a code that is not here may turn up all the same.

Always holds: the codes and meanings here are those of docs/protocol.md, Error codes; a test compares them. What raises
ImageUnavailable raises it with a passing code, what raises a plain ImageError with a lasting one.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """What a code means, and what a maintainer can do about it, a sentence. `lasting`: another try, or another
    volunteer, would hardly fare better."""

    meaning: str
    advice: str
    lasting: bool


CORRECT = "Correct the file, and caption it in a new project."
CORRECT_ADDRESS = "Correct the address, and caption the image in a new project."
ASK_HOST = "Ask the host for access, or caption a copy on your own disk; both in a new project."
LATER = "Nothing, if it becomes fewer; else see whether the host answers you."
SMALLER = "Store the image smaller, and caption it in a new project."
ANOTHER = "Try another prompt, or another model, in a new project."
REPORT = "Look at the image; if it opens elsewhere, report it with the file."

CODES: Mapping[str, Failure] = {
    "empty": Failure("the file has no bytes", CORRECT, True),
    "undecodable": Failure("the bytes are no image in a known format, or are damaged", CORRECT, True),
    "truncated": Failure("the file ends before the image does", CORRECT, True),
    "too-large": Failure("more bytes than the project allows, or over 120,000,000 pixels", SMALLER, True),
    "not-image": Failure("what came is no image, but a page or another kind of file", CORRECT_ADDRESS, True),
    "gone": Failure("the address or the place in its file has nothing any more", CORRECT_ADDRESS, True),
    "refused": Failure("the host refuses to hand it out", ASK_HOST, True),
    "opted-out": Failure(
        "robots.txt or X-Robots-Tag forbids it",
        "Respect it, or ask the host for leave and caption the image in a new project.",
        True,
    ),
    "changed": Failure(
        "the bytes are not those that were planned", "Caption what is there now in a new project.", True
    ),
    "bad-address": Failure(
        "the address is no http or https one, or does not lead into the public network",
        "Correct the address, or name the private host in project.yaml, and caption the image in a new project.",
        True,
    ),
    "bad-redirect": Failure("the host redirects in a circle, or too often", CORRECT_ADDRESS, True),
    "unreachable": Failure("no connection to the host: its name, its port, or TLS", LATER, False),
    "timeout": Failure("the host was too slow", LATER, False),
    "busy": Failure("the host asked to come back later, each time", LATER, False),
    "server-error": Failure("the host failed", LATER, False),
    "unavailable": Failure(
        "no peer has the image, or its file cannot be read now",
        "Start the coordinator, or a seeder that has the images (p2pcap seed).",
        False,
    ),
    "rejected": Failure("the engine refuses the image, or gave it up twice", REPORT, True),
    "empty-output": Failure("twice the model's answer was empty, or shorter than the task asks", ANOTHER, True),
    "refusal": Failure("twice the model refused to answer", ANOTHER, True),
    "repetition": Failure("twice the model's answer repeated itself to its end", ANOTHER, True),
    "bad-format": Failure("twice the model's answer had not the form that the task asks for", ANOTHER, True),
    "unfinished": Failure(
        "twice the model's answer was cut at max_tokens, and the task wants whole ones",
        "Caption it in a new project with higher max_tokens, or ask for less.",
        True,
    ),
    "too-long": Failure(
        "an answer has more than 65,536 characters, or the answers together do not fit a body",
        "Caption it in a new project with lower max_tokens.",
        True,
    ),
    "engine-died": Failure(
        "the engine died under it as often as the policy allows attempts, the last time with no other image",
        REPORT,
        True,
    ),
    "too-slow": Failure("decoding it took too long", SMALLER, True),
    "decoder-died": Failure("the process that decodes it died of it", REPORT, True),
}
