"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts, in the plural unless it is one: "1 box", "2 boxes", "20,000 events".

    Args:
        number: how many.
        noun: what is counted, in the singular; its last word takes the ending, "es" behind a hissing sound.
    """
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"
