"""One line of nix-eval-jobs: an attribute that is a derivation, or the error that it is instead.

Decides what of a line is believed: paths must be store paths, `meta` may be anything and is read leniently.
Source: `src/drv.cc` and `src/worker.cc` of nix-eval-jobs 2.9 to 2.33.
What this file does not know: targets, faults, records.
"""

from typing import Any, Final

import msgspec

from nixmill.nix import store_path
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath, StorePathError


class EvalRecordError(ValueError):
    """The line is no record of nix-eval-jobs; the message says why."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What of `meta` is of use; whatever has an unexpected type is left out."""

    description: str = ""
    maintainers: tuple[str, ...] = ()
    """Mail addresses, else names."""
    timeout_s: int | None = None
    max_silent_s: int | None = None


class JobLine(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute that is a derivation."""

    path: AttrPath
    name: str
    system: str
    drv_path: StorePath
    outputs: dict[str, StorePath | None]
    """None where the path is known only after building."""
    meta: Meta = Meta()


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute that did not evaluate; the text as Nix prints it, ANSI-free."""

    path: AttrPath
    error: str


class _Line(msgspec.Struct):
    attrPath: list[str]  # noqa: N815 - nix-eval-jobs' word
    error: str | None = None
    name: str | None = None
    system: str = "unknown"
    drvPath: str | None = None  # noqa: N815 - likewise
    outputs: dict[str, str | None] = {}
    meta: Any = None


_decoder: Final = msgspec.json.Decoder(_Line)


def parse(line: bytes | str) -> JobLine | ErrorLine:
    """Return what a line says; raise `EvalRecordError` where it is malformed."""
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EvalRecordError(f"This is no record of nix-eval-jobs: {error}.") from error
    path = tuple(found.attrPath)
    if found.error is not None:
        return ErrorLine(path=path, error=found.error)
    if found.drvPath is None or found.name is None:
        raise EvalRecordError("This record of nix-eval-jobs has neither an error nor a derivation.")
    return _job(path, found.name, found.drvPath, found)


def _job(path: AttrPath, name: str, drv: str, found: _Line) -> JobLine:
    store_dir = drv.rsplit("/", 1)[0]
    try:
        drv_path = store_path.parse(drv, store_dir)
        outputs = {output: _output(text, store_dir) for output, text in found.outputs.items()}
    except StorePathError as error:
        raise EvalRecordError(f"This record of nix-eval-jobs is malformed: {error}") from error
    return JobLine(
        path=path, name=name, system=found.system, drv_path=drv_path, outputs=outputs, meta=_meta(found.meta)
    )


def _output(text: str | None, store_dir: str) -> StorePath | None:
    # Older versions print the placeholder of a content-addressed output, which lies outside the store.
    return store_path.parse(text, store_dir) if text and text.startswith(store_dir + "/") else None


def _meta(found: object) -> Meta:
    if not isinstance(found, dict):
        return Meta()
    description = found.get("description")
    return Meta(
        description=description if isinstance(description, str) else "",
        maintainers=_maintainers(found.get("maintainers")),
        timeout_s=_whole(found.get("timeout")),
        max_silent_s=_whole(found.get("maxSilent")),
    )


def _maintainers(found: object) -> tuple[str, ...]:
    people = found if isinstance(found, list) else [found]
    return tuple(name for person in people if (name := _person(person)))


def _person(found: object) -> str:
    if isinstance(found, dict):
        return next((value for key in ("email", "name", "github") if isinstance(value := found.get(key), str)), "")
    return found if isinstance(found, str) else ""


def _whole(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) else None
