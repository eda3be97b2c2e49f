"""The operations of the worker protocol that nixmill uses: one function each, from arguments to an `Operation`.

Paths must be well formed: a malformed one makes a daemon answer twice and close the connection.
What this file does not know: whether the connection lives, and what an answer means for a build or a plan.
Source: `src/libstore/daemon.cc`, `remote-store.cc` (Nix 2.8 to 2.35).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from nixmill.nix import build_result, nar, path_info, wire
from nixmill.nix.build_result import BuildResult
from nixmill.nix.derivation import Derivation
from nixmill.nix.derived_path import DerivedPath
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Parser, Reader, string, strings, u64
from nixmill.nix.worker_protocol import DaemonFacts, Operation

_BUILD_PATHS: Final = 9
_ADD_TEMP_ROOT: Final = 11
_ADD_INDIRECT_ROOT: Final = 12
_SET_OPTIONS: Final = 19
_COLLECT_GARBAGE: Final = 20
_QUERY_PATH_INFO: Final = 26
_QUERY_VALID_PATHS: Final = 31
_BUILD_DERIVATION: Final = 36
_NAR_FROM_PATH: Final = 38
_ADD_TO_STORE_NAR: Final = 39
_QUERY_MISSING: Final = 40
_BUILD_PATHS_WITH_RESULTS: Final = 46

BUILD_PATHS_WITH_RESULTS_SINCE: Final = 34
_VERBOSITY_INFO: Final = 3
_QUIET_BUILD: Final = 7
_NORMAL_MODE: Final = 0
_CHECK_MODE: Final = 2
_RETURN_DEAD: Final = 1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one connection. Must be the first operation: lists of substituters are read once per worker."""

    keep_failed: bool = False
    keep_going: bool = True
    fallback: bool = False
    max_jobs: int = 1
    max_silent_s: int = 0
    cores: int = 0
    substitute: bool = True
    overrides: Mapping[str, str] = {}
    """Settings by their name in nix.conf; most need a trusted user."""


class MissingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What realising some derived paths would need, as the daemon sees it."""

    build: frozenset[StorePath]
    fetch: frozenset[StorePath]
    unknown: frozenset[StorePath]
    download_bytes: int
    nar_bytes: int


def set_options(options: Options) -> Operation[None]:
    """Set what holds for everything later on the connection."""
    numbers = (
        _SET_OPTIONS,
        options.keep_failed,
        options.keep_going,
        options.fallback,
        _VERBOSITY_INFO,
        options.max_jobs,
        options.max_silent_s,
        1,  # obsolete
        _QUIET_BUILD,  # else every line of log comes a second time, as a message
        0,  # obsolete
        0,  # obsolete
        options.cores,
        options.substitute,
    )
    return Operation("SetOptions", b"".join(map(u64, numbers)) + wire.string_map(options.overrides), _nothing)


def add_temp_root(path: StorePath) -> Operation[None]:
    """Protect a path, valid or not, until the connection closes."""
    return Operation("AddTempRoot", u64(_ADD_TEMP_ROOT) + string(path), _one)


def add_indirect_root(link: str) -> Operation[None]:
    """Make a symbolic link to a store path a root, for as long as it is there; anybody may.

    `link` is absolute and, for the daemon, where it is for us. It has to be there already: a collection that does not
    find it forgets it. A daemon that serves no local store refuses.
    """
    return Operation("AddIndirectRoot", u64(_ADD_INDIRECT_ROOT) + string(link), _one)


def collect_garbage_dead() -> Operation[list[StorePath]]:
    """Return what a collection would delete, invalid paths included; nothing is deleted."""

    def answer(reader: Reader) -> Parser[list[StorePath]]:
        found = yield from _paths(reader)
        yield from reader.u64()  # bytes freed
        yield from reader.u64()  # obsolete
        return found

    no_paths, keep_alive, no_limit, obsolete = strings(()), u64(0), u64(2**64 - 1), u64(0) * 3
    request = u64(_COLLECT_GARBAGE) + u64(_RETURN_DEAD) + no_paths + keep_alive + no_limit + obsolete
    return Operation("CollectGarbage", request, answer)


def query_valid_paths(paths: Collection[StorePath]) -> Operation[list[StorePath]]:
    """Return those that are valid, without asking any cache."""
    return Operation("QueryValidPaths", u64(_QUERY_VALID_PATHS) + strings(paths) + u64(0), _paths)


def query_path_info(path: StorePath) -> Operation[PathInfo | None]:
    """Return what the store knows of a path; the worker remembers the answer, a missing path for an hour."""

    def answer(reader: Reader) -> Parser[PathInfo | None]:
        valid = yield from reader.boolean()
        return (yield from path_info.read(reader, path)) if valid else None

    return Operation("QueryPathInfo", u64(_QUERY_PATH_INFO) + string(path), answer)


def query_missing(targets: Iterable[DerivedPath]) -> Operation[MissingAnswer]:
    """Return what realising `targets` would build and fetch; does not check signatures."""

    def answer(reader: Reader) -> Parser[MissingAnswer]:
        return MissingAnswer(
            build=frozenset((yield from _paths(reader))),
            fetch=frozenset((yield from _paths(reader))),
            unknown=frozenset((yield from _paths(reader))),
            download_bytes=(yield from reader.u64()),
            nar_bytes=(yield from reader.u64()),
        )

    return Operation("QueryMissing", u64(_QUERY_MISSING) + strings(target.to_wire() for target in targets), answer)


def nar_from_path(path: StorePath, sink: nar.Sink) -> Operation[None]:
    """Hand the contents of a valid path to `sink`, piece by piece."""

    def answer(reader: Reader) -> Parser[None]:
        return nar.copy(reader, sink)

    return Operation("NarFromPath", u64(_NAR_FROM_PATH) + string(path), answer)


def build_paths_with_results(
    targets: Iterable[DerivedPath], facts: DaemonFacts, store_dir: str, *, check: bool = False
) -> Operation[dict[str, BuildResult]]:
    """Realise `targets`; results are keyed by their wire form, because a daemon returns them in its own order.

    With `check`, derivations whose outputs are valid are built once more and compared; the store keeps what it has.
    """

    def answer(reader: Reader) -> Parser[dict[str, BuildResult]]:
        found: dict[str, BuildResult] = {}
        for _ in range((yield from reader.count())):
            target = yield from reader.text()
            found[target] = yield from build_result.read(reader, facts.minor, store_dir)
        return found

    mode = _CHECK_MODE if check else _NORMAL_MODE
    request = u64(_BUILD_PATHS_WITH_RESULTS) + strings(t.to_wire() for t in targets) + u64(mode)
    return Operation("BuildPathsWithResults", request, answer, since=BUILD_PATHS_WITH_RESULTS_SINCE)


def check_paths(targets: Iterable[DerivedPath]) -> Operation[None]:
    """Build valid `targets` once more and compare, on daemons without results: what goes wrong is an error."""
    request = u64(_BUILD_PATHS) + strings(t.to_wire() for t in targets) + u64(_CHECK_MODE)
    return Operation("BuildPaths", request, _one)


def build_derivation(
    drv_path: StorePath, derivation: Derivation, inputs: Iterable[StorePath], facts: DaemonFacts, store_dir: str
) -> Operation[BuildResult]:
    """Build exactly this derivation from `inputs` (all paths it reads), which must be valid; needs a trusted user.

    Neither the `.drv` file nor those of its inputs need be in that store.
    """
    outputs = b"".join(
        string(name) + string(o.path) + string(o.hash_algorithm) + string(o.hash)
        for name, o in sorted(derivation.outputs.items())
    )
    request = (
        u64(_BUILD_DERIVATION)
        + string(drv_path)
        + u64(len(derivation.outputs))
        + outputs
        + strings(sorted(inputs))
        + string(derivation.system)
        + string(derivation.builder)
        + strings(derivation.args)
        + wire.string_map(dict(sorted(derivation.environment.items())))
        + u64(_NORMAL_MODE)
    )

    def answer(reader: Reader) -> Parser[BuildResult]:
        return build_result.read(reader, facts.minor, store_dir)

    return Operation("BuildDerivation", request, answer)


def add_to_store_nar(info: PathInfo) -> Operation[None]:
    """Register a path; its NAR must follow as framed data. Unsigned paths need a trusted user.

    Preferred to AddMultipleToStore, which loses its place on old daemons if a path is valid already.
    """
    repair, unsigned = u64(0), u64(1)
    return Operation("AddToStoreNar", u64(_ADD_TO_STORE_NAR) + path_info.write(info) + repair + unsigned, _nothing)


def _nothing(_: Reader) -> Parser[None]:
    yield from ()


def _one(reader: Reader) -> Parser[None]:
    yield from reader.u64()


def _paths(reader: Reader) -> Parser[list[StorePath]]:
    return list(map(StorePath, (yield from reader.texts())))
