"""Scores: what an attack makes of a sample's errors, one file a score, and the statistics made of them."""
