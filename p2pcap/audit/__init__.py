"""Checking others' captions: what is wrong, how sure that is, and which ones to look at."""
