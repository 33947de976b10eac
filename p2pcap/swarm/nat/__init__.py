"""Being reached behind a router: port mapping, relays, hole punching, and finding out which of them is needed."""
