"""How numbers stand in sentences."""


def counted(number: int, noun: str) -> str:
    """``1 stage``, ``2,000 stages``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
