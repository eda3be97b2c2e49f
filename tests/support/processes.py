"""Nix processes that work on a scratch store, seen from outside."""

import os
from pathlib import Path

from tests.support.scratch_store import ScratchStore


def evaluating(store: ScratchStore, name: str = "nix") -> list[int]:
    """Return the processes that use this store and whose command line has an argument that ends in `name`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"NIX_STORE_DIR={store.store_dir}\0".encode() in environment and f"{name}\0".encode() in command:
                found.append(int(entry.name))
    return found


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
