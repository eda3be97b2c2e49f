"""Rows of a history, with sensible defaults."""

import os

from nixmill.core.evaluation import Attribute, EvalError, EvalFault
from nixmill.core.history import AttemptRow, AttributeRow, EvaluationRow, RunRow
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Work
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


def drv(name: str) -> StorePath:
    """Return the path of a derivation called `name`."""
    return StorePath(f"/nix/store/{'0' * 32}-{name}.drv")


def a_run(*, started_at: float = 100.0, process: int | None = None) -> RunRow:
    return RunRow(
        project="example",
        checkout="/src/example",
        commit="c0ffee",
        tree_hash="beef",
        targets=(".#checks", 'release.nix -A "a b"'),
        base_commit="cafe",
        process=os.getpid() if process is None else process,
        started_at=started_at,
    )


def an_attribute(*path: str) -> Attribute:
    name = path[-1] if path and path[-1].isidentifier() else "thing"
    return Attribute(
        path=path,
        name=f"{name}-1.0",
        system="x86_64-linux",
        drv_path=drv(f"{name}-1.0"),
        outputs={"out": StorePath(f"/nix/store/{'1' * 32}-{name}-1.0"), "unknown": None},
        description="It does things",
        maintainers=("somebody", "someone"),
        timeout_s=60,
        traces=("warning: old",),
    )


def an_error(*path: str) -> EvalError:
    return EvalError(
        path=path, fault=EvalFault.THROW, message="no\nway", position="a.nix:1:2", peak_bytes=5, traces=("t",)
    )


def an_evaluation(run: int, *paths: AttrPath, key: str = "key") -> EvaluationRow:
    return EvaluationRow(
        key=key,
        run=run,
        tree_hash="beef",
        commit="c0ffee",
        seconds=1.5,
        attributes=tuple(an_attribute(*path) for path in paths),
        errors=(an_error("broken"),),
    )


def an_outcome(run: int, *path: str, outcome: Outcome = Outcome.SUCCEEDED, key: str = "key") -> AttributeRow:
    attribute = an_attribute(*path)
    return AttributeRow(
        run=run,
        evaluation=key,
        path=path,
        drv_path=attribute.drv_path,
        outcome=outcome,
        change=Change.NEW,
        how="built",
        culprit=None if outcome is Outcome.SUCCEEDED else drv("culprit"),
        seconds=2.5,
    )


def an_attempt(
    number: int,
    run: int,
    name: str = "hello",
    *,
    outcome: Outcome | None = Outcome.SUCCEEDED,
    seconds: float = 3.0,
    work: Work = Work.BUILD,
) -> AttemptRow:
    return AttemptRow(
        number=number,
        run=run,
        drv_path=drv(name),
        name=name,
        system="x86_64-linux",
        work=work,
        machine="local",
        started_at=1000.0 + number,
        seconds=seconds,
        outcome=outcome,
        message="",
        exit_status=None if outcome is Outcome.SUCCEEDED else 1,
        log=f"/logs/{number}",
        output_bytes=7,
    )
