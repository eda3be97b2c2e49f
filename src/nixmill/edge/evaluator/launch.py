"""How evaluation processes are started: options, environment, private directory.

Decides what a process may do: pure for flakes, restricted to one tree otherwise; no substituters, no lock file written,
no configuration taken from a flake, import-from-derivation only where the settings allow it.
Source: Nix manual, "nix.conf"; `doc` of 2.8.0 and 2.34.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.evaluation import EvaluationLimits, EvaluationSettings
from nixmill.edge.evaluator import confine

HEAP_BYTES: Final = 768 * 1024**2
"""Initial size of the collector's heap: collecting less often saves 6 % of the time; untouched pages cost nothing."""
HEAP_SHARE: Final = 5
"""The heap begins with at most this part of what a worker may use."""

_NEVER: Final = 16
"""So many times its memory limit no worker reaches alive."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What is common to all processes of an evaluator."""

    program: str
    environment: Mapping[str, str]
    version: tuple[int, ...]
    hidden: tuple[Path, ...] = ()
    """Places that evaluations must not read; see `confine.py`."""

    def options(self, settings: EvaluationSettings, tree_path: str) -> list[str]:
        """Return the options of a process that evaluates flakes, or (with a tree) files below `tree_path`."""
        wanted = {
            "pure-eval": _flag(not tree_path),
            "restrict-eval": _flag(bool(tree_path)),
            "allowed-uris": "",
            "allow-import-from-derivation": _flag(settings.allow_import_from_derivation),
            "accept-flake-config": "false",
            "allow-unsafe-native-code-during-evaluation": "false",
            "substituters": "",
            "warn-dirty": "false",
            "eval-cache": "false",
        }
        readable = ["-I", f"nixmill-tree={tree_path}"] if tree_path else []
        given = [word for name, value in wanted.items() for word in ("--option", name, value)]
        # Not for everyone, though without it a `throw` has no position: Nix reads the source again for each frame of
        # each error, 2.8 byte by byte (30 to 100 ms an error here).
        trace = ["--show-trace"] if settings.show_trace else []
        common = ["--extra-experimental-features", "nix-command flakes", "--log-format", "internal-json"]
        return [*common, *trace, *given, *readable]

    def repl(self, settings: EvaluationSettings, tree_path: str) -> list[str]:
        """Return the command line of a worker that is driven over stdin."""
        return [self.program, "repl", *self.options(settings, tree_path)]

    def check(self, settings: EvaluationSettings, flake: str) -> list[str]:
        """Return the command line of a worker that is driven by `pure.nix`."""
        options = self.options(settings, "")
        return [self.program, "flake", "check", "--keep-going", "--no-write-lock-file", *options, f"path:{flake}"]

    def jobs(
        self, program: str, settings: EvaluationSettings, tree_path: str, limits: EvaluationLimits, roots: str
    ) -> list[str]:
        """Return the command line of nix-eval-jobs but for the expression.

        Each derivation is rooted in `roots`; without any, workers are not to restart: they would drop what they made.
        """
        share = 1 if roots else _NEVER
        bounds = [
            "--workers",
            str(limits.workers),
            "--max-memory-size",
            str(max(1, share * limits.memory_bytes // 2**20)),
        ]
        rooted = ["--gc-roots-dir", roots] if roots else []
        return [program, *self.options(settings, tree_path), *bounds, "--meta", *rooted, "--expr"]

    def environ(self, private: str, memory_bytes: int = HEAP_BYTES * HEAP_SHARE) -> dict[str, str]:
        """Return the environment of a process that may keep files in `private`: its repl history, for one."""
        kept = {k: v for k, v in self.environment.items() if k not in ("NIX_PATH", "NIX_SHOW_STATS", "NIX_COUNT_CALLS")}
        data = os.path.join(private, "data")  # noqa: PTH118 - a string for an environment
        made = self.heap(memory_bytes) | kept | {"NIX_PATH": "", "XDG_DATA_HOME": data, "NIX_DATA_HOME": data}
        return confine.environment(made, self.hidden, private)

    def heap(self, memory_bytes: int) -> dict[str, str]:
        """Return the variables that say how large the collector's heap begins."""
        return {"GC_INITIAL_HEAP_SIZE": str(min(HEAP_BYTES, memory_bytes // HEAP_SHARE))}


def _flag(value: bool) -> str:  # noqa: FBT001 - a word for Nix's options
    return "true" if value else "false"


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of `nix (Nix) 2.8.0`, or of `nix (Nix) 2.35.0pre20260101_abc`; empty where there are none."""
    word = text.strip().rsplit(" ", 1)[-1]
    numbers: list[int] = []
    for part in word.split("."):
        digits = ""
        for c in part:
            if not c.isdigit():
                break
            digits += c
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
