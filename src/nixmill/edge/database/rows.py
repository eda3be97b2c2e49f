"""Between the structs of `nixmill.core` and the columns of the tables.

Decides how values are stored: enumerations by value, paths as ASCII JSON, what nobody searches for as one JSON
column. Text from strangers is stored as it is but for NUL and lone surrogates, which no database takes.
"""

import hashlib
import json
import re
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Row as SqlRow
from sqlalchemy import RowMapping

from nixmill.core.evaluation import Attribute, EvalError, EvalFault
from nixmill.core.history import AttemptRow, AttributeRow, DifferenceRow, PastBuild, RunRow
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Verdict, Work
from nixmill.edge.database.pages_rank import rank_of
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

Values = dict[str, Any]
T = TypeVar("T", bound=StrEnum)

PATH_MAX: Final = 2_000
"""Bytes of a stored path: PostgreSQL indexes no row of more than 2,704 (its manual, "B-Tree Indexes")."""

_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


class AttributeDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of an `Attribute` that are not columns."""

    outputs: dict[str, StorePath | None]
    description: str = ""
    maintainers: tuple[str, ...] = ()
    timeout_s: int | None = None
    max_silent_s: int | None = None
    traces: tuple[str, ...] = ()


class ErrorDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of an `EvalError` that are not columns."""

    message: str
    position: str = ""
    peak_bytes: int | None = None
    traces: tuple[str, ...] = ()


_encoder: Final = msgspec.json.Encoder()
_attribute_details: Final = msgspec.json.Decoder(AttributeDetails)
_error_details: Final = msgspec.json.Decoder(ErrorDetails)


def clean(text: str) -> str:
    """Return text that any database takes."""
    return _UNSTORABLE.sub("\ufffd", text)


def path_text(path: AttrPath) -> str:
    """Return a path as it is stored. One that is absurdly long is cut, visibly, to a path that is as unique."""
    text = json.dumps(path, separators=(",", ":"))
    if len(text) <= PATH_MAX:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return json.dumps([f"{text[: PATH_MAX // 3]}… ({len(text)} characters, {digest})"], separators=(",", ":"))


def path_of(text: str) -> AttrPath:
    """Return the path that `path_text` stored."""
    return tuple(json.loads(text))


def _details(details: AttributeDetails | ErrorDetails) -> str:
    try:
        return _encoder.encode(details).decode()
    except UnicodeEncodeError:
        # A lone surrogate, once in a blue moon.
        return json.dumps(clean_all(msgspec.to_builtins(details)))


def clean_all(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON whose texts any database takes."""
    match value:
        case str():
            return clean(value)
        case list() | tuple():
            return [clean_all(item) for item in value]
        case dict():
            return {clean(key): clean_all(item) for key, item in value.items()}
        case _:
            return value


def run_values(row: RunRow, process_identity: str) -> Values:
    """Return the columns of a new run."""
    return {
        "project": clean(row.project),
        "checkout": clean(row.checkout),
        "commit": row.commit,
        "tree_hash": row.tree_hash,
        "targets": json.dumps(row.targets),
        "base_commit": row.base_commit,
        "process": row.process,
        "process_identity": process_identity,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "verdict": row.verdict and row.verdict.value,
        "sentence": clean(row.sentence),
    }


def run_row(row: SqlRow[Any]) -> RunRow:
    """Return a row of `nm_run`."""
    columns = row._mapping  # noqa: SLF001 - the public name for it, for all its underscore
    values = {field: columns[field] for field in RunRow.__struct_fields__}
    values["targets"] = tuple(json.loads(row.targets))
    values["verdict"] = None if row.verdict is None else _member(Verdict, row.verdict)
    return RunRow(**values)


def attribute_values(evaluation: int, position: int, attribute: Attribute) -> Values:
    """Return the columns of an attribute of an evaluation."""
    details = AttributeDetails(
        attribute.outputs,
        attribute.description,
        attribute.maintainers,
        attribute.timeout_s,
        attribute.max_silent_s,
        attribute.traces,
    )
    return {
        "evaluation": evaluation,
        "position": position,
        "path": path_text(attribute.path),
        "name": clean(attribute.name),
        "system": clean(attribute.system),
        "drv_path": attribute.drv_path,
        "details": _details(details),
    }


def attribute_of(path: str, name: str, system: str, drv_path: str, details: str) -> Attribute:
    """Return the attribute that these columns hold."""
    rest = _attribute_details.decode(details)
    return Attribute(
        path=path_of(path),
        name=name,
        system=system,
        drv_path=StorePath(drv_path),
        outputs=rest.outputs,
        description=rest.description,
        maintainers=rest.maintainers,
        timeout_s=rest.timeout_s,
        max_silent_s=rest.max_silent_s,
        traces=rest.traces,
    )


def error_values(evaluation: int, position: int, error: EvalError) -> Values:
    """Return the columns of an error of an evaluation."""
    details = ErrorDetails(error.message, error.position, error.peak_bytes, error.traces)
    return {
        "evaluation": evaluation,
        "position": position,
        "path": path_text(error.path),
        "fault": error.fault.value,
        "details": _details(details),
    }


def error_of(path: str, fault: str, details: str) -> EvalError:
    """Return the error that these columns hold."""
    rest = _error_details.decode(details)
    return EvalError(
        path=path_of(path),
        fault=_member(EvalFault, fault),
        message=rest.message,
        position=rest.position,
        peak_bytes=rest.peak_bytes,
        traces=rest.traces,
    )


def outcome_values(evaluation: int, row: AttributeRow) -> Values:
    """Return the columns of an attribute's outcome."""
    return {
        "evaluation": evaluation,
        "run": row.run,
        "path": path_text(row.path),
        "drv_path": row.drv_path,
        "outcome": row.outcome.value,
        "change": row.change.value,
        "how": clean(row.how),
        "culprit": row.culprit,
        "seconds": row.seconds,
        "rank": rank_of(row.outcome, row.change),
    }


def outcome_row(values: RowMapping) -> AttributeRow:
    """Return an attribute's outcome; `values` holds the evaluation's key instead of its id."""
    fields: Values = {name: values[name] for name in AttributeRow.__struct_fields__}
    fields["path"] = path_of(fields["path"])
    fields["outcome"] = _member(Outcome, fields["outcome"])
    fields["change"] = _member(Change, fields["change"])
    return AttributeRow(**fields)


def difference_values(row: DifferenceRow) -> Values:
    """Return the columns of a difference from the base."""
    return {
        "run": row.run,
        "path": path_text(row.path),
        "change": row.change.value,
        "renamed_to": None if row.renamed_to is None else path_text(row.renamed_to),
        "hidden_by": None if row.hidden_by is None else path_text(row.hidden_by),
    }


def attempt_values(row: AttemptRow) -> Values:
    """Return the columns of an attempt."""
    values = msgspec.structs.asdict(row)
    values["work"] = row.work.value
    values["outcome"] = row.outcome and row.outcome.value
    for name in ("name", "system", "machine", "message", "log"):
        values[name] = clean(values[name])
    return values


def attempt_row(row: SqlRow[Any]) -> AttemptRow:
    """Return a row of `nm_attempt`."""
    values = dict(row._mapping)  # noqa: SLF001 - as above
    values["work"] = _member(Work, row.work)
    values["outcome"] = None if row.outcome is None else _member(Outcome, row.outcome)
    return AttemptRow(**values)


def past_build(
    drv_path: StorePath,
    number: int,
    run: int,
    started_at: float,
    seconds: float,
    outcome: str,
    failed_in_run: int | None,
) -> PastBuild:
    """Return what these columns say of a derivation."""
    return PastBuild(
        drv_path=drv_path,
        last_outcome=outcome_of(outcome),
        last_run=run,
        last_attempt=number,
        last_at=started_at + seconds,
        failed_in_run=failed_in_run,
    )


def outcome_of(text: str) -> Outcome:
    """Return the outcome that is stored as `text`."""
    return _OUTCOMES.get(text) or _member(Outcome, text)


def _member(kind: type[T], text: str) -> T:
    return msgspec.convert(text, kind)
