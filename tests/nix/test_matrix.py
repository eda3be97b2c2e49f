"""The daemon's suites again, against each version of Nix that `tools/nix_matrix.sh` has installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = [
    "tests/contract/test_store_door.py",
    *(f"tests/nix/test_daemon_{part}.py" for part in ("store", "builder", "remote")),
]
VERSIONS = {"trixie": "2.26", "sid": "2."}
"""Debian's suites, and how their Nix's version begins; sid moves on."""


def matrix_directory() -> Path:
    return Path(os.environ.get("NIXMILL_MATRIX_DIR", Path.home() / ".cache/nixmill/matrix"))


@pytest.mark.matrix
@pytest.mark.parametrize("suite", VERSIONS)
def test_the_daemons_suites_pass_with_the_nix_of(suite: str) -> None:
    programs = matrix_directory() / f"bin-{suite}"
    if not programs.exists():
        pytest.skip(f"{programs} is missing; make it with tools/nix_matrix.sh (as root)")
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    version = subprocess.run(["nix-store", "--version"], env=environment, capture_output=True, text=True, check=True)
    assert version.stdout.split()[-1].startswith(VERSIONS[suite])

    arguments = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SUITES]
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-8000:]
