"""Metrics of an audit, one file a metric: each registers itself when the registry is first read."""
