"""A Progress to whom nothing matters."""


class Silent:
    """Tells nobody."""

    def compiling(self, done: int, total: int) -> None:
        """Nothing."""

    def doing(self, what: str, done: int, total: int) -> None:
        """Nothing."""
