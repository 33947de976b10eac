"""Fetching from strangers' web servers and from the Hub: one client, and the rules that bind it."""
