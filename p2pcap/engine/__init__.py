"""vLLM in a process of its own: `base` says what the node may ask of it, `vllm_engine` keeps it running.

The node imports `base` and `vllm_engine`; `process` and what it imports (torch, vllm) run only in the engine's process.
"""
