"""How numbers stand in sentences."""


def bytes_in_words(number: float) -> str:
    """``12 bytes``, ``5.4 MB``, ``1.6 GB``: powers of 1,000, as disks are sold and file managers count."""
    if number < 999.5:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.5:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:.3g} TB"


def counted(number: int, noun: str) -> str:
    """``1 stage``, ``2,000 stages``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
