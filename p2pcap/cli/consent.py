"""Asking a volunteer, once, before anything is lent: what for, for whom, and what becomes public.

Always holds: nobody's silence counts as a yes; whoever is not there to answer has said `--yes`, or is asked with an
error.
"""

import sys
from collections.abc import Callable, Iterator

from p2pcap.cli.amounts import size
from p2pcap.cli.looking import line
from p2pcap.cli.output import clean, say, warn
from p2pcap.errors import ConfigError, P2pcapError
from p2pcap.node.consent import Offer, changed, pinned
from p2pcap.node.options import EngineOptions, NodeOptions
from p2pcap.project.opened import Project

PROMPTS, PROMPT_LETTERS, ABOUT_LETTERS = 4, 160, 400
"""How many prompts are shown, and how much of each, and of the project's description."""

GIB = 1024**3
CAPTION_BYTES = 1_000
"""Of a caption on disk, roughly: some 100 words, what proves them, and their rows in the tables."""

ASK = "Add --yes to agree without being asked, as on a server, or run it on a terminal. --observe watches only."


class Consent:
    """Asks on the terminal what `options` are to be agreed to. `quiet` is called before and after, with whether the
    terminal is needed for that."""

    def __init__(self, options: NodeOptions, yes: bool, quiet: Callable[[bool], None]) -> None:
        self._options = options
        self._yes = yes
        self._quiet = quiet
        self.asking = False
        """Whether a question is open."""

    async def __call__(self, offer: Offer) -> None:
        """Return when the answer is yes. Raises P2pcapError for a no, ConfigError where nobody can answer."""
        if not self._yes and not can_ask():
            why = f": {'; '.join(changed(offer.before, offer.terms))}" if offer.before else ""
            raise ConfigError(f"The project asks for more than was agreed to{why}. {ASK}")
        self._quiet(True)
        for text in described(offer, self._options):
            say(text) if self._yes else warn(text)  # nobody agrees to what was not shown
        self.asking = not self._yes
        agreed = self._yes or await line("Caption for it with this machine? [y/N] ") in ("y", "yes")
        self.asking = False
        self._quiet(False)
        if not agreed:
            raise P2pcapError("You did not agree, so nothing was fetched or published. To watch only, add --observe.")


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def described(offer: Offer, options: NodeOptions) -> Iterator[str]:
    """What is agreed to, line by line."""
    project, plan = offer.project, offer.project.plan
    if offer.before is not None:
        yield f"You agreed to this before, but now there is: {'; '.join(changed(offer.before, offer.terms))}"
    about = f": {_short(plan.description, ABOUT_LETTERS)}" if plan.description else ""
    yield f"for        {project.title}{about}"
    yield f"           {project.images} images; captions under the licence: {plan.license or 'none given'}"
    yield f"signed by  {offer.signed_by} (manifest {project.manifest.version}; project {offer.terms.project[:16]})"
    yield from _models(offer)
    yield from _asks(project)
    yield f"memory     {_memory(options.engine)}"
    yield f"disk       {_disk(offer, options)}"
    yield f"network    {_network(offer, options)}"
    name = f'the name "{options.name}"' if options.name else "no name (--name gives one)"
    yield f"published  your captions, for good, with your key {offer.me} and {name}; peers see your IP address"
    yield "later      the maintainer may change prompts and model; your node follows, and asks again at its next start"


def _models(offer: Offer) -> Iterator[str]:
    models = {pinned(stage.task.model): stage.task.model for stage in offer.project.stages}
    for number, (which, model) in enumerate(models.items()):
        from_hub = f"of the Hub, revision {model.revision[:12]}" if model.revision else "from peers, by hash"
        bytes_ = offer.bytes.get(which)
        licence = offer.licenses.get(which) or ("see its page" if model.revision else "ask the maintainer")
        facts = [from_hub, size(bytes_) if bytes_ else "size not told", f"licence: {licence}"]
        yield f"{'' if number else 'model':<10} {model.name}, {', '.join(facts)}"


def _asks(project: Project) -> Iterator[str]:
    texts = [prompt.text for stage in project.stages for prompt in stage.task.prompts]
    for number, text in enumerate(texts[:PROMPTS]):
        yield f"{'' if number else 'asks':<10} {_short(text, PROMPT_LETTERS)}"
    if len(texts) > PROMPTS:
        yield f"           and {len(texts) - PROMPTS} prompts more (p2pcap status shows all)"


def _memory(engine: EngineOptions) -> str:
    if engine.kind == "openai":
        return "none for a model: servers that you name run it"
    share = f"up to {100 * engine.settings.gpu_memory:.0f} % of each GPU (--gpu-memory)"
    return f"{share}, or, without a GPU, the model and {engine.settings.kv_cache_gib:g} GiB for each engine"


def _disk(offer: Offer, options: NodeOptions) -> str:
    captions = offer.project.images * len(offer.project.stages) * CAPTION_BYTES
    most = min(captions, options.store_cap) if options.store == "full" else captions
    models = sum(offer.bytes.values())
    parts = [f"{size(models)} of models"] if models and options.engine.kind != "openai" else []
    parts.append(f"up to {options.image_cap / GIB:g} GiB of images (--image-cap)")
    parts.append(f"about {size(most)} of captions in the end (--store, --store-cap)")
    return ", ".join(parts)


def _network(offer: Offer, options: NodeOptions) -> str:
    come = f"images come from {offer.images_at}" if offer.images_at else "images come from where the project says"
    if offer.image_bytes:
        come += f", about {size(offer.image_bytes)} for each that you caption"
    limits = [options.network.upload, options.network.download]
    said = [f"{size(rate)}/s" if rate != float("inf") else "no limit" for rate in limits]
    return (
        f"{come}; what you hold is handed to others; up: {said[0]}, down: {said[1]} (--upload-limit, --download-limit)"
    )


def _short(text: str, letters: int) -> str:
    shown = clean(text)
    return shown if len(shown) <= letters else f"{shown[: letters - 1]}…"
