"""What vLLM is busy with: its own numbers of requests and memory, and our count of tokens.

vLLM's numbers come with every step of the model; nothing is done with them until somebody asks.
"""

from typing import Any

from vllm.config import VllmConfig
from vllm.outputs import RequestOutput
from vllm.v1.metrics.loggers import PrometheusStatLogger, StatLoggerFactory

from p2pcap.engine.base import EngineLoad


class Usage:
    """Collects it for one engine."""

    def __init__(self) -> None:
        self._read = 0
        self._made = 0
        self._last: Any = None

    def add(self, result: RequestOutput) -> None:
        """Counts the tokens of a request that ended."""
        self._read += len(result.prompt_token_ids or ())
        self._made += len(result.outputs[0].token_ids)

    def load(self) -> EngineLoad:
        """What vLLM last said, and the tokens since the start."""
        if self._last is None:
            return EngineLoad(read=self._read, made=self._made)
        return EngineLoad(
            running=self._last.num_running_reqs,
            waiting=self._last.num_waiting_reqs + self._last.num_skipped_waiting_reqs,
            kv=self._last.kv_cache_usage,
            read=self._read,
            made=self._made,
        )

    def loggers(self) -> list[StatLoggerFactory]:
        """What vLLM is to give its numbers to."""
        usage = self

        class Last(PrometheusStatLogger):  # type: ignore[misc]  # vLLM comes without types
            """Keeps the last numbers. vLLM would run a PrometheusStatLogger beside any logger that is none, and keep
            histograms of every token that nobody reads; this one is one by name only."""

            def __init__(self, vllm_config: VllmConfig, engine_indexes: list[int] | None = None) -> None:
                pass

            def record(self, scheduler_stats: Any, *_others: Any, **_more: Any) -> None:
                if scheduler_stats is not None:
                    usage._last = scheduler_stats

            def log_engine_initialized(self) -> None:
                pass

            def record_sleep_state(self, *_state: Any) -> None:
                pass

        return [Last]
