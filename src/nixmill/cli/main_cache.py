"""`nixmill cache …`: commands for who looks after the caches of a server. Each imports what it needs when called."""

# ruff: noqa: PLC0415 - each command pays only for what it uses

from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from nixmill.cli.main_server import make_group
from nixmill.cli.wiring import Wiring

if TYPE_CHECKING:
    from nixmill.cli.cache import Caches

_Config = Annotated[str | None, Parameter(help="Settings file. Default: NIXMILL_CONFIG, /etc/nixmill/…")]
_Repair = Annotated[bool, Parameter(negative="", help="Publish damaged paths again.")]
_DryRun = Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="", help="Say what would be deleted.")]
_Json = Annotated[bool, Parameter(name="--json", negative="", help="Everything as one document.")]

CACHE_HELP: Final = """\
Binary caches of the server: what is in them, whether it is sound.

nixmill cache list
nixmill cache show main                 how other machines use it
nixmill cache verify main --repair
nixmill cache collect main --dry-run
nixmill cache key new ci.example.org-1 /etc/nixmill/main.key
"""
KEY_HELP: Final = """\
Keys that sign what is published.

nixmill cache key new ci.example.org-1 /etc/nixmill/main.key
nixmill cache key show /etc/nixmill/main.key
"""


class CacheCommands:
    """The commands below `nixmill cache`."""

    def __init__(self, wiring: Wiring) -> None:
        """Work over the program's wiring."""
        self._wiring = wiring

    def add_to(self, app: App) -> None:
        """Put the commands into the table."""
        cache, key = make_group("cache", CACHE_HELP), make_group("key", KEY_HELP)
        cache.command(self.list)
        cache.command(self.show)
        cache.command(self.verify)
        cache.command(self.collect)
        cache.command(self.sign)
        cache.command(self.retry)
        key.command(self.key_new, name="new")
        key.command(self.key_show, name="show")
        key.group = ()  # among the others, not under a heading of its own
        cache.command(key)
        app.command(cache)

    def list(self, *, json: _Json = False, config: _Config = None) -> int:
        """List all caches and how full they are.

        nixmill cache list
        """
        return self._caches(config).list(json=json)

    def show(self, name: str, /, *, config: _Config = None) -> int:
        """Print address and public keys of a cache.

        nixmill cache show main            lines for nix.conf
        """
        return self._caches(config).show(name)

    def verify(self, name: str, /, *paths: str, repair: _Repair = False, config: _Config = None) -> int:
        """Read what is in a cache, and say what is damaged.

        nixmill cache verify main
        nixmill cache verify main /nix/store/…-hello-2.12
        nixmill cache verify main --repair

        A damaged path is taken out and published again: from the store,
        from a substituter, or built anew. What nobody has stays as it is.
        Exits with 1 where something is damaged and was not mended.
        """
        return self._caches(config).verify(name, paths, repair=repair)

    def collect(self, name: str, /, *, dry_run: _DryRun = False, config: _Config = None) -> int:
        """Delete what is beyond the limits of a cache; happens hourly by itself.

        nixmill cache collect main --dry-run
        nixmill cache collect main

        Never what pins, running checks or waiting uploads need, nor what
        any path that stays refers to.
        """
        return self._caches(config).collect(name, dry_run=dry_run)

    def sign(self, name: str, /, *, config: _Config = None) -> int:
        """Have a new key sign everything; a server does so by itself.

        nixmill cache sign main            after a key was put before the old one

        Only what one of the cache's keys has signed truly is signed again:
        keep the old key in the settings until this is done.
        """
        return self._caches(config).sign(name)

    def retry(self, name: str, /, *paths: str, config: _Config = None) -> int:
        """Try again to publish what was given up or refused.

        nixmill cache retry main
        """
        return self._caches(config).retry(name, paths)

    def key_new(self, name: str, file: str, /) -> int:
        """Make a key for signing; print the public one.

        nixmill cache key new ci.example.org-1 /etc/nixmill/main.key
        """
        from nixmill.cli import cache

        return cache.new_key(self._wiring, name, file)

    def key_show(self, file: str, /) -> int:
        """Print the public key that belongs to a secret one.

        nixmill cache key show /etc/nixmill/main.key
        """
        from nixmill.cli import cache

        return cache.show_key(self._wiring, file)

    def _caches(self, config: str | None) -> "Caches":
        from nixmill.cli.cache import Caches

        return Caches(self._wiring, config)
