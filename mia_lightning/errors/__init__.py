"""Errors of single samples, one file an error: each registers itself when the registry is first read."""
