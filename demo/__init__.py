"""`make demo`: a whole swarm on one machine, with nothing left out. See `python -m demo --help`."""
