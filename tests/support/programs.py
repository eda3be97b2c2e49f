"""Small programs that stand in for others on PATH."""

from pathlib import Path


def script(directory: Path, name: str, text: str) -> Path:
    """Make an executable shell script and return its path."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
