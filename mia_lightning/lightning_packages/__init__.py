"""Lightning under its two names, ``lightning.pytorch`` and ``pytorch_lightning``: both are served alike.

The packages hold the same code, but each its own classes, and a trainer refuses callbacks, modules and data modules of
the other one. Neither is imported because the other is.
"""
