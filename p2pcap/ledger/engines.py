"""What kind of engine made a result, told from its engine class.

Always holds: it depends on the 8 bytes alone, so every node says the same of a result.
"""

from p2pcap.project.task import EngineKind

OPENAI = b"openai"
"""How the class of a server with OpenAI's interface begins; 2 bytes follow that tell served models apart. All other
classes are vLLM's, and hashes: one in 2^48 begins like this by chance."""


def kind_of(engine: bytes) -> EngineKind:
    """The kind of the engine with this class of 8 bytes."""
    return "openai" if engine.startswith(OPENAI) else "vllm"
