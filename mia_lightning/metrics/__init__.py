"""torchmetrics metrics: gathering per-sample rows over processes, and thin metrics on top of the pure functions."""
