"""Where the audits of a run lie on disk; without anything heavy, since a wrong folder is noticed before all else."""

from pathlib import Path

EXPECTED = (
    "Expected a run's folder as runs/NAME/version_0, its audit folder, the output folder of 'mia-lightning audit', or "
    "the result.json in it."
)


def require_run(path: str | Path) -> Path:
    """Return the path of a run, of any kind that :data:`EXPECTED` names.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no {path}. {EXPECTED}")
    return Path(path)
