"""Where the audits of a run lie on disk; without anything heavy, since a wrong folder is noticed before all else."""

from __future__ import annotations

from pathlib import Path

EXPECTED = (
    "Expected a run's folder as runs/NAME/version_0, its audit folder, the output folder of 'mia-lightning audit', or "
    "the result.json in it."
)


def require_run(path: str | Path) -> Path:
    """Check that there is something where a run should be.

    Args:
        path: The run's folder, its audit folder, the output folder of ``mia-lightning audit``, or a result's file.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no {path}. {EXPECTED}")
    return Path(path)
