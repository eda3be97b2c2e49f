"""A Nix store of its own in a temporary directory, for one test session or one test.

Physical and logical path are the same, hashes are the directory's own, and any Nix program started with
`environment` uses it. No daemon need run. Nothing is ever substituted unless a test says so.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = """\
build-users-group =
sandbox = false
substituters =
fsync-metadata = false
experimental-features = nix-command flakes
"""


@dataclass(frozen=True)
class ScratchStore:
    """Where the store is, and the environment that makes Nix use it."""

    root: Path
    environment: dict[str, str]

    @property
    def store_dir(self) -> str:
        """The logical and physical store directory."""
        return self.environment["NIX_STORE_DIR"]


@contextlib.contextmanager
def scratch_store(configuration: str = CONFIGURATION) -> Iterator[ScratchStore]:
    """Make a store; remove it, read-only files included, at the end. The path is short: sockets allow 108 bytes."""
    root = Path(tempfile.mkdtemp(prefix="nm", dir="/tmp"))
    try:
        (root / "home").mkdir()
        yield ScratchStore(root, _environment(root, configuration))
    finally:
        _make_writable(root)
        shutil.rmtree(root)


def _environment(root: Path, configuration: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NIX_") and k != "XDG_CACHE_HOME"}
    return inherited | {
        "HOME": str(root / "home"),
        "USER": os.environ.get("USER", "root"),
        "NIX_STORE_DIR": str(root / "store"),
        "NIX_STATE_DIR": str(root / "var/nix"),
        "NIX_LOG_DIR": str(root / "log"),
        "NIX_LOCALSTATE_DIR": str(root / "var"),
        "NIX_DATA_DIR": str(root / "share"),
        "NIX_CONF_DIR": str(root / "etc"),
        "NIX_DAEMON_SOCKET_PATH": str(root / "sock"),
        "NIX_CONFIG": configuration,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def _make_writable(root: Path) -> None:
    for directory, _, _ in os.walk(root):
        Path(directory).chmod(stat.S_IRWXU)
