"""Option values: text in, a value out, or a message that names the text."""

from typer import BadParameter


def whole_number(text: str) -> int:
    """Read a whole number; whether it is in range is for the command to say."""
    try:
        return int(text)
    except ValueError:
        raise BadParameter(f"{text!r} is not a whole number.") from None


def number(text: str) -> float:
    """Read a number; whether it is in range is for the command to say."""
    try:
        return float(text)
    except ValueError:
        raise BadParameter(f"{text!r} is not a number.") from None


def names_in(text: str | None) -> tuple[str, ...]:
    """Take a list of names apart; nothing given is no name."""
    return () if text is None else tuple(name.strip() for name in text.split(","))
