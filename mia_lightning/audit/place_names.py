"""Names of samples that have no id: the side and their place."""


def name_by_place(side: str, place: int) -> str:
    """Name a sample, or an entry of a data set, by its place.

    Example:
        >>> name_by_place("member", 12)
        'member-000012'
    """
    return f"{side}-{place:06d}"
