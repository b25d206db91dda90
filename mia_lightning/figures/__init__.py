"""Plots of audit results, drawn without a display and without matplotlib's global state."""
