"""The samples of an audit that are worth a look, run once more and drawn."""

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.batch_scoring import Exhibit
from mia_lightning.audit.forward import Module, Runtime
from mia_lightning.audit.loading import Source
from mia_lightning.figures.sample_images import SampleImages, encoded_parts
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Group, Picture, chosen_rows

_EACH = 8  # pictured samples a group


def pictures_of(
    result: AuditResult,
    auditor: Auditor,
    module: Module | None,
    sources: tuple[Source, Source],
    runtime: Runtime | None = None,
) -> list[Picture]:
    """Draw the most and the least exposed members, and the nonmembers that look most like members.

    Where processes make each forward pass together, all must call it: they make the same passes.

    Args:
        result: The audit.
        auditor: What has made it.
        module: As for :meth:`Auditor.run`.
        sources: Members and nonmembers: data sets or loaders. Of those that cannot be read by position, there are none.
        runtime: Likewise.
    """
    if result.positions is None:
        return []
    chosen = chosen_rows(result, _EACH)
    found: list[tuple[int, Group, Exhibit]] = []
    for side, source in zip(("member", "nonmember"), sources, strict=True):
        rows = [(row, group) for row, group in chosen if result.member[row] == (side == "member")]
        places = [int(result.positions[row]) for row, _ in rows]
        shown = auditor.exhibit(module, source, side, places, runtime=runtime)
        found += [(row, group, one) for (row, group), one in zip(rows, shown, strict=False)]
    exhibits = [one for _, _, one in found]
    samples = [SampleImages(e.input[0], e.target[0], e.prediction[0], e.task == "multilabel") for e in exhibits]
    ignore_index = int(result.meta.get("settings", {}).get("ignore_index", 255))
    encoded = encoded_parts(samples, ignore_index=ignore_index)
    return [Picture(row, group, parts) for (row, group, _), parts in zip(found, encoded, strict=True)]
