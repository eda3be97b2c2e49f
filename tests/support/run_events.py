# ruff: noqa: ANN401  # `more` stands for any other fields of the event
"""Makes events of a run with few words, for tests of what is shown."""

import hashlib
from typing import Any

from nixmill.core.evaluation import Attribute, EvalError, EvalFault, EvaluationEnded
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import (
    AttributeErred,
    AttributeFound,
    AttributeSettled,
    BaseCompared,
    Change,
    EvaluationTold,
    Planned,
    RunEnded,
    RunStarted,
    Verdict,
    Work,
    WorkEnded,
    WorkOutput,
    WorkStarted,
)
from nixmill.nix.attr_path import AttrPath, parse
from nixmill.nix.store_path import StorePath

_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"


def drv(name: str) -> StorePath:
    """Return a well-formed derivation path for a name; equal names give equal paths."""
    digest = hashlib.sha256(name.encode()).digest()
    return StorePath("/nix/store/" + "".join(_ALPHABET[byte % 32] for byte in digest) + f"-{name}.drv")


def attribute(path: str | AttrPath, name: str = "", **more: Any) -> Attribute:
    """Return an attribute; its derivation is named like its last name unless `name` says otherwise."""
    names = parse(path) if isinstance(path, str) else path
    name = name or f"{names[-1]}-1.0"
    return Attribute(path=names, name=name, system="x86_64-linux", drv_path=drv(name), outputs={"out": None}, **more)


def found(path: str | AttrPath, name: str = "", **more: Any) -> AttributeFound:
    return AttributeFound(attribute=attribute(path, name, **more))


def erred(path: str, message: str = "it is broken", fault: EvalFault = EvalFault.THROW, **more: Any) -> AttributeErred:
    return AttributeErred(error=EvalError(path=parse(path), fault=fault, message=message, **more))


def started(**more: Any) -> RunStarted:
    fields: dict[str, Any] = {
        "run": 12,
        "project": "demo",
        "commit": "0dff6d5a90b1c2d3e4f5",
        "dirty": False,
        "targets": (".#checks",),
        "base": "4f1c2a9e8877665544",
        "base_reason": "merge base with origin/main",
    }
    return RunStarted(**(fields | more))


def compared(attributes: int = 200) -> BaseCompared:
    return BaseCompared(attributes=attributes, errors=0, reused=True)


def evaluated(attributes: int, errors: int = 0) -> EvaluationTold:
    ended = EvaluationEnded(
        seconds=3.2, first_record_s=0.4, peak_bytes=300 << 20, workers=2, evaluator="nix repl 2.8.0"
    )
    return EvaluationTold(ended=ended, attributes=attributes, errors=errors)


def planned(**more: Any) -> Planned:
    fields: dict[str, Any] = {
        "complete": True,
        "attributes": 214,
        "changed": 15,
        "skipped": 0,
        "present": 103,
        "to_build": 31,
        "to_fetch": 40,
        "fetch_bytes": 12_900_000,
        "unpacked_bytes": 67_000_000,
        "about_s": 252.0,
    }
    return Planned(**(fields | more))


def work_started(attempt: int, name: str, *, work: Work = Work.BUILD, **more: Any) -> WorkStarted:
    fields: dict[str, Any] = {"machine": "local", "about_s": None, "for_attributes": ()}
    return WorkStarted(attempt=attempt, drv_path=drv(name), name=name, work=work, **(fields | more))


def output(attempt: int, *lines: str) -> WorkOutput:
    return WorkOutput(attempt=attempt, lines=lines)


def work_ended(attempt: int, name: str, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> WorkEnded:
    fields: dict[str, Any] = {
        "work": Work.BUILD,
        "seconds": 12.0,
        "message": "",
        "exit_status": None,
        "tail": (),
        "log": f"/logs/{attempt}.zst",
        "retry_in_s": None,
        "failed_before": None,
        "kept_directory": "",
    }
    return WorkEnded(attempt=attempt, drv_path=drv(name), name=name, outcome=outcome, **(fields | more))


def settled(
    path: str | AttrPath, name: str = "", outcome: Outcome = Outcome.SUCCEEDED, *, how: str = "built", **more: Any
) -> AttributeSettled:
    fields: dict[str, Any] = {"change": Change.CHANGED, "culprit": None, "seconds": 12.0}
    return AttributeSettled(attribute=attribute(path, name), outcome=outcome, how=how, **(fields | more))


def ended(verdict: Verdict = Verdict.GOOD, sentence: str = "") -> RunEnded:
    return RunEnded(run=12, verdict=verdict, seconds=192.0, sentence=sentence or f"It {verdict.value}.")
