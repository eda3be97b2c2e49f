"""`nixmill init`: a commented nixmill.toml, and a first check where there is nothing to evaluate yet."""

from pathlib import Path
from typing import Final

from nixmill.config import FILE_NAME
from nixmill.core.errors import InputError
from nixmill.core.target import DEFAULT_FILES

TOML: Final = """\
# How nixmill checks this repository. Every line is optional; these are the defaults.
# All fields: docs/configuration.md of nixmill.

[evaluate]
# targets = [".#checks"]        # as after `nixmill run`; or ["release.nix"]
# systems = ["x86_64-linux"]    # default: what the machines can build
# memory-mib = 4096             # of one evaluator
# time-s = 3600                 # of the whole evaluation

[build]
# timeout-s = 0                 # 0: no limit
# max-silent-s = 0
# max-log-mib = 64
# retries = 2                   # only after failures of machines, never of builds
"""

FLAKE: Final = """\
{
  description = "A first check for nixmill";

  outputs = { self }: {
    checks.x86_64-linux.hello = derivation {
      name = "hello";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-c" "echo hello; echo hello > $out" ];
    };
  };
}
"""


def init(directory: Path) -> list[str]:
    """Write what is missing in `directory`; return sentences that say what was done and what to type next."""
    toml = directory / FILE_NAME
    if toml.exists():
        raise InputError(f"{toml} exists already; nothing was changed.", "Edit it, or check the project: nixmill run")
    said = [_write(toml, TOML)]
    if not any((directory / name).exists() for name in ("flake.nix", *DEFAULT_FILES)):
        said.append(_write(directory / "flake.nix", FLAKE))
    inside_git = any((parent / ".git").exists() for parent in (directory.resolve(), *directory.resolve().parents))
    said.append(
        "Next: git add --intent-to-add . && nixmill run" if inside_git else "Next: git init && git add . && nixmill run"
    )
    return said


def _write(path: Path, text: str) -> str:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return f"Wrote {path}."
