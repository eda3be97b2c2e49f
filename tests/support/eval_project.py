"""Small projects to evaluate, as a directory or as a locked flake, and what evaluators make of them."""

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalRecord,
    EvaluationEnded,
    EvaluationLimits,
    EvaluationRequest,
    EvaluationSettings,
    FileTarget,
    FlakeTarget,
    Target,
)
from nixmill.doors import Evaluator
from nixmill.nix.attr_path import AttrPath

JOB = (
    'job = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "exit 1" ]; };'
)
"""A function for `let`: a derivation that must never be built."""

QUICK = EvaluationLimits(workers=2, time_s=120)

T = TypeVar("T")


@dataclass(frozen=True)
class Project:
    """A directory with Nix files in it."""

    path: Path

    def file(self, name: str = "default.nix", attr: AttrPath = ()) -> FileTarget:
        return FileTarget(file=str(self.path / name), tree_path=str(self.path), attr=attr)

    def flake(self, *attr: str) -> FlakeTarget:
        """Commit everything; return a target of that commit."""
        commit(self.path)
        revision = git(self.path, "rev-parse", "HEAD").strip()
        return FlakeTarget(reference=f"git+file://{self.path}?rev={revision}", attr=attr)


def project(path: Path, files: Mapping[str, str]) -> Project:
    """Write files below `path`."""
    for name, text in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return Project(path)


def git(path: Path, *arguments: str) -> str:
    command = ["git", "-C", str(path), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(path: Path) -> None:
    if not (path / ".git").exists():
        git(path, "init", "--quiet")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--allow-empty", "--message", "state")


def request(
    *targets: Target, settings: EvaluationSettings | None = None, limits: EvaluationLimits = QUICK
) -> EvaluationRequest:
    return EvaluationRequest(targets=targets, settings=settings or EvaluationSettings(), limits=limits)


async def collect(evaluator: Evaluator, wanted: EvaluationRequest) -> list[EvalRecord]:
    """Return all records."""
    async with contextlib.aclosing(evaluator.evaluate(wanted)) as groups:
        return [record async for records in groups for record in records]


def of(records: Sequence[EvalRecord], kind: type[T]) -> list[T]:
    """Return the records of one kind."""
    return [record for record in records if isinstance(record, kind)]


def good(records: Sequence[EvalRecord]) -> dict[AttrPath, Attribute]:
    """Return attributes by path; fail if a path comes twice."""
    found = {record.path: record for record in of(records, Attribute)}
    assert len(found) == len(of(records, Attribute))
    return found


def bad(records: Sequence[EvalRecord]) -> dict[AttrPath, EvalError]:
    """Return errors by path; fail if a path comes twice, or is an attribute too."""
    found = {record.path: record for record in of(records, EvalError)}
    assert len(found) == len(of(records, EvalError))
    assert not found.keys() & good(records).keys()
    return found


def ended(records: Sequence[EvalRecord]) -> EvaluationEnded:
    """Return the last record, which must be the only one of its kind."""
    [end] = of(records, EvaluationEnded)
    assert records[-1] is end
    return end
