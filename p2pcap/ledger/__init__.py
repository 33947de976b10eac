"""The shared set of signed statements: what is valid, what is claimed, what is done. Pure: no sockets or disk."""
