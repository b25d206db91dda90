"""The two ways to name suspects and reference of a data module; without anything heavy, for the command line."""


def require_one_way(suspects: object, reference: object, suspect_ids: object, reference_ids: object) -> None:
    """Raise a ValueError for anything but two folders or two lists of ids."""
    folders, lists = (suspects, reference), (suspect_ids, reference_ids)
    if (None in folders) == (None in lists) or (any(folders) and any(lists)):
        raise ValueError(
            "Name two folders, --suspects DIR and --reference DIR, or two files of ids out of the configuration's own "
            "folder, --suspect_ids FILE and --reference_ids FILE."
        )


def require_task(task: str) -> None:
    """Raise a ValueError for stored outputs of which it is not said what the model does."""
    if task == "auto":
        raise ValueError(
            "Say what the model does: --task translation, segmentation or multilabel (task=... in Python)."
        )
