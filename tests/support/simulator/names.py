"""Sets of names, written as the text they are."""


def names(text: str) -> frozenset[str]:
    """The words of a text; a set literal would take a line for each."""
    return frozenset(text.split())
