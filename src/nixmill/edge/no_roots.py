"""The door `Roots` where none can be kept, as in a store on another machine: results live as long as their run."""

from collections.abc import Collection

from nixmill.nix.store_path import StorePath


class NoRoots:
    """Keeps nothing, and says so once, where it is opened."""

    async def add(self, paths: Collection[StorePath]) -> dict[StorePath, str]:
        """See `Roots`; nothing is said of single paths."""
        del paths
        return {}

    async def standing(self) -> set[str]:
        """See `Roots`."""
        return set()

    async def remove(self, hash_parts: Collection[str]) -> None:
        """See `Roots`."""
