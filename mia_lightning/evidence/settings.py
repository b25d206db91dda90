"""Settings of an audit for evidence: one score, chosen beforehand, judges."""

from mia_lightning import registry
from mia_lightning.audit.config import AuditConfig, AuditOptions
from mia_lightning.scores.building import selectable_scores


def one_score(config: AuditConfig | None, options: AuditOptions, *, default: str) -> AuditConfig:
    """Settings under which one score judges: those of ``config``, None being all pairs, with ``options`` replaced.

    Raises:
        ValueError: If the score is no attack, or several scores or a folder for files of an audit are asked for.
    """
    if refused := [name for name in ("scores", "output_dir") if name in options]:
        raise ValueError(
            f"Evidence judges by one score and writes no files of an audit: leave out {' and '.join(refused)}, choose "
            "the score with primary=... and write the evidence with Evidence.to_json."
        )
    primary = options.get("primary", default if config is None else config.primary)
    specs = map(registry.scores.get, selectable_scores())
    attacks = [spec.name for spec in specs if spec.attack and "history" not in spec.needs]  # there is one model
    if primary not in attacks:
        raise ValueError(f"Unknown score primary={primary!r}; choose one of {', '.join(attacks)}.")
    scores = (primary, *(score for score in ("reconstruction", "membership") if score != primary))
    fixed: AuditOptions = {"primary": primary, "scores": scores, "output_dir": None}
    return AuditConfig.of(config or AuditConfig(max_samples=None), **(options | fixed))
