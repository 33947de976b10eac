"""A running node: swarm, ledger, store, engine and worker wired into one nursery, watched through a control socket."""
