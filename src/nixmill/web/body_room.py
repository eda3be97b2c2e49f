"""How much of large bodies may be in memory at once, where anybody can send them."""


class BodyRoom:
    """A number of bytes that requests take and give back."""

    def __init__(self, size: int) -> None:
        """Have `size` bytes."""
        self._left = size

    def take(self, count: int) -> bool:
        """Take bytes; say whether there were so many. None are taken where there were not."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give(self, count: int) -> None:
        """Give bytes back."""
        self._left += count
