"""Captions in files that others can use, each row with what is needed to check it."""
