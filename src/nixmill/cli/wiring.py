"""What the commands ask of the program's wiring. `nixmill.app` gives it; nothing here knows an edge."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from nixmill.config.server import ServerSettings
from nixmill.core.doctor import Finding
from nixmill.core.standing import Standing
from nixmill.doors import Archive, History, Logs, Source
from nixmill.engine.books import Books
from nixmill.engine.request import RunDoors

if TYPE_CHECKING:
    from nixmill.engine.cache_tools import CacheTools
    from nixmill.nix.signature import SecretKey


class StoreChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which stores, machines and evaluator a run uses; None and `auto` mean what Nix is configured for."""

    store: str = "auto"
    builders: str | None = None
    max_jobs: int | None = None
    evaluator: Literal["auto", "own", "nix-eval-jobs"] = "auto"


class LocalHistory(History, Archive, Protocol):
    """The history of this machine, for writing runs and for looking back at them."""


class Wiring(Protocol):
    """Joins doors to edges on demand, so that a command pays only for what it uses."""

    def open_run(self, choice: StoreChoice, notice: Callable[[str], None]) -> AbstractAsyncContextManager[RunDoors]:
        """Open everything a run needs; what was leased is free again when it closes."""

    def open_history(self) -> AbstractAsyncContextManager[LocalHistory]:
        """Open the history of this machine's runs."""

    def logs(self) -> Logs:
        """Return the logs of this machine's attempts."""

    def source(self) -> Source:
        """Return the source of checkouts."""

    def place(self) -> str:
        """Return the store directory, which is part of an evaluation's identity."""

    def cores(self) -> int:
        """Return how many processors this process may use."""

    async def examine(self, *, thorough: bool) -> list[Finding]:
        """Look at the machine as `nixmill doctor` does; `thorough` tries the sandbox out with a tiny build."""

    async def standing(self, directory: str) -> Standing:
        """Return where the checkout around `directory` stands. Raises `InputError` where there is none."""

    def serve(self, settings: ServerSettings, ready: Callable[[], None]) -> int:
        """Be the server until a signal ends it; return the exit code.

        Says on standard error where it listens, and calls `ready` once it does.
        """

    def open_server_books(self, settings: ServerSettings) -> AbstractAsyncContextManager[Books]:
        """Open the server's database directly, brought up to date first; a running server sees what is written."""

    def open_caches(self, settings: ServerSettings, *, building: bool) -> AbstractAsyncContextManager["CacheTools"]:
        """Open the caches of a server's settings; a server may be running. `building`: what is bad is built again."""

    def make_key(self, name: str, file: str) -> str:
        """Make a secret key of that name in a new file that only its owner can read; return the public key."""

    def read_key(self, file: str | Path) -> "SecretKey":
        """Return the secret key that a file holds."""
