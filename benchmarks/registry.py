"""The benchmarks by name. Each is a module of the same name with a function `run` that yields lines."""

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.report import Lines
from p2pcap.errors import ConfigError

BENCHMARKS = {
    "node_path": "images/s of a node's whole path against a bare AsyncLLM with the same images (goal: ratio 0.85)",
    "node_path_long": "the same where a caption costs 50 ms of compute and more (goal: ratio 0.97)",
    "mixed_lengths": "the same with captions of 10 to 200 tokens, as the image decides (goal: ratio 0.97)",
    "batches": "images/s of a node's whole path against a loop of LLM.chat in batches of 8 (goal: 1.5 times)",
    "gpu": "on a GPU: images/s of a node's whole path against one offline LLM.generate (goal: ratio 0.97)",
    "two_prompts": "time of two prompts about 12-megapixel images against one (goal: 1.6 times)",
    "engine_restart": "kill -9 of the engine to its next caption against a bare AsyncLLM's start (goal: 1.2 times)",
    "scoring": "cost of checking an answer against generating it, 60 and 180 tokens (goals: 0.55, 0.25)",
    "audit_share": "cost of checking others' captions, of the captioning, by tier (goal for proven authors: 0.01)",
    "audit_power": "false verdicts in 5,000 honest items (goal: 0), and the share of each cheat that is caught",
    "audit_power_unsure": "the same with models that are not certain of their words, in 600 items each",
    "node_cpu": "CPU of the node's own process beside an engine at 50 images/s (goal: 10 % of a core)",
    "offline": "images/s of a node's whole path against one offline LLM.generate over the same images",
    "engine_fed": "share of the time in which an engine waits for images that its source can deliver (goal: 1 %)",
    "help_time": "`p2pcap --help` against `python -c 'import click'` (goal: 3 times)",
    "join": "seconds from `p2pcap join` to the first claim, engine start not counted (goal: 10)",
    "joiner_bytes": "bytes that a joiner of 10,000,000 images gets before its first claim (goal: 100,000)",
    "node_memory": "memory of the node's process without its engine while it captions",
    "decode": "12-megapixel JPEGs to 512 and 1024 by the engine's decoders against bare Pillow (goal: ratio 0.95)",
    "ledger": "statements validated and stored per second (goal: 2,000 a core), and how long a commit takes",
    "ledger_scale": "a million captions: cold start (goal: 5 s), the table by SQL (2 s), memory of the ids (100 MB)",
    "verify": "a million captions in Parquet checked against the proof in the file (goal: 60 s on two cores)",
    "reconcile": "bytes and rounds to find what two nodes differ in (goals: 400 B; 10 kB; 40 kB), and time of a round",
    "healing": "simulated seconds until all nodes of a healed partition hold the same (goal: 10)",
    "gossip_burst": "200 statements/s into one node for 30 s: the share it holds in the end (goal: all), and the CPU",
    "gossip_latency": "20 nodes, 10 statements/s in all, 60 s: delay to everybody else (goal: 99 % within 1 s)",
    "bulk_fetch": "64 MiB by hash in items of 1 MiB and 200 kB against the library's own raw stream (goal: ratio 0.5)",
    "connections": "memory of a node with 50 connections over the same process with none (goal: 30 MiB)",
    "idle": "CPU of a node with 20 peers and nothing to do (goal: 2 % of a core)",
    "manifest_change": "seconds until a changed prompt is in force on all of six nodes (goal: 3)",
    "first_peer": "seconds from `p2pcap join` to the first peer (goal: 3)",
    "url_fetch": "images/s of 64 fetches at once, 50 ms latency, against plain httpx2 (goal: ratio 0.9)",
    "chunk_bytes": "bytes moved for a chunk by those of its row groups or tar range (goal: 1.1), and memory (300 MiB)",
    "plan_files": "local files planned a minute, against sha256sum of the same files (goals: 200,000; ratio 0.7)",
    "plan_rows": "10,000,000 rows of a Parquet listing planned: seconds (goal: 60) and memory (1 GiB)",
    "export": "exports of a million captions against bare COPY (goal: 1.3 times) and a bare loop (1.5), and streaming",
    "audit_sim": "wrong captions that an identity gets in unfound, at its best, by tier (goal: 40)",
    "sybils": "simulated: five volunteers in an open project that 200 identities flood (goal: 5 % slower at most)",
    "tui_keys": "ms from a key to its screen, 10,000 peers and contributors, 1,000,000 captions (goal: 100)",
    "tui_cost": "cores that the terminal UI takes (goal: 5 %) and costs its node (1 %), redraws a second (2)",
    "swarm_sim": "simulated swarms: work done twice (goal: 1 %, 0.1 % before the last tenth), makespan (goal: 1.05)",
}
"""In the order in which `run all` runs them."""

ALL = "all"


def chosen(name: str) -> list[str]:
    """The names that `name` stands for. Raises ConfigError for an unknown one."""
    if name == ALL:
        return list(BENCHMARKS)
    if name in BENCHMARKS:
        return [name]
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(BENCHMARKS)}, or {ALL}."
    raise ConfigError(f"There is no benchmark {name!r}; {hint}")


def load(name: str) -> Callable[[], Lines]:
    """The function that runs the benchmark `name`."""
    run: Any = import_module(f"benchmarks.{name}").run
    loaded: Callable[[], Lines] = run
    return loaded
