"""The terminal UI: a client of a node's control socket, as every other front end. The node never notices it."""
