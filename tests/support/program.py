"""Runs the whole program, as a person would, against real Nix in a scratch store."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.scratch_store import ScratchStore

NIXMILL = (sys.executable, "-m", "nixmill")
TIME_LIMIT_S = 120


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> Any:  # noqa: ANN401 - whatever --json printed
        """The JSON on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Project:
    """A checkout in a directory of its own, and the store it is checked with."""

    top: Path
    store: ScratchStore

    def write(self, **files: str) -> None:
        """Write files; in names `__` stands for `.`, and `_` before it for `/`."""
        for name, text in files.items():
            path = self.top / name.replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def git(self, *arguments: str) -> str:
        """Run git here; return what it prints."""
        who = ("-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "init.defaultBranch=main")
        done = subprocess.run(
            ("git", *who, *arguments),
            cwd=self.top,
            env=self.store.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """Write files and commit everything; return the commit."""
        if not (self.top / ".git").exists():
            self.git("init", "-q")
        self.write(**files)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def nixmill(self, *arguments: str, **environment: str) -> Done:
        """Run nixmill here to its end."""
        done = subprocess.run(
            (*NIXMILL, *arguments),
            cwd=self.top,
            env=self.store.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start nixmill here, its output in pipes."""
        return subprocess.Popen(
            (*NIXMILL, *arguments),
            cwd=self.top,
            env=self.store.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def nix_store(self, *arguments: str) -> str:
        """Run nix-store on this store; return what it prints."""
        done = subprocess.run(
            ("nix-store", *arguments), env=self.store.environment, capture_output=True, text=True, check=False
        )
        return done.stdout


def job(name: str, command: str = "echo made > $out", extra: str = "") -> str:
    """Return a Nix expression for a derivation that runs a shell command. `/bin/sh` has built-ins only."""
    quoted = command.replace("''", "'''").replace("${", "''${")
    return (
        f'derivation {{ name = "{name}"; system = builtins.currentSystem or "x86_64-linux"; builder = "/bin/sh"; '
        f"args = [ \"-c\" ''{quoted}'' ]; PATH = \"/usr/bin:/bin\"; {extra} }}"
    )


def flake(**checks: str) -> str:
    """Return a flake whose checks are these expressions."""
    inner = "\n".join(f"      {name} = {expression};" for name, expression in checks.items())
    body = inner.replace('builtins.currentSystem or "x86_64-linux"', '"x86_64-linux"')
    return f"{{\n  outputs = {{ self }}: {{\n    checks.x86_64-linux = {{\n{body}\n    }};\n  }};\n}}\n"
