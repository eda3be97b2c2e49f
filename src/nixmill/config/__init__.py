"""`nixmill.toml`: what a repository says about how it is checked.

One file at the top of the tree → one frozen, validated `ProjectConfig`; units are in the names. Everything has a
default, so most repositories need no file. Command-line options win over it.
"""

import difflib
import re
import tomllib
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.pin import RootPolicy

FILE_NAME: Final = "nixmill.toml"


class EvaluateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """`[evaluate]`: what is evaluated, and within which limits."""

    targets: tuple[str, ...] = ()
    """As after `nixmill run`: `.#checks`, `release.nix`. Empty: the flake's checks, release.nix or default.nix."""
    attributes: tuple[str, ...] = ()
    """Attributes of a file target, as `-A`."""
    systems: tuple[str, ...] = ()
    """Only these systems; empty: this machine's systems and those of its builders."""
    force_recurse: bool = False
    """Look into every attribute set, not only those marked `recurseForDerivations`."""
    allow_import_from_derivation: bool = False
    """Let evaluation build what it imports; each such build is shown and timed."""
    workers: int | None = None
    """Evaluators at once; by default one per core."""
    memory_mib: int = 4096
    """Resident memory of one worker."""
    time_s: int = 3600
    """Seconds the whole evaluation may take."""
    attribute_time_s: int = 600
    """Seconds one attribute may take; above it that attribute is an error and the others go on."""


class BuildConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """`[build]`: limits of one build. 0 means no limit."""

    timeout_s: int = 0
    """Seconds one build may take."""
    max_silent_s: int = 0
    """Seconds one build may be silent."""
    max_log_mib: int = 64
    """Size of one build's log."""
    max_output_mib: int = 0
    """Size of one build's outputs together."""
    retries: int = 2
    """Further tries after infrastructure failures; a build that fails by itself is never tried again."""


class WatchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """`[watch]`: which branches and tags a server checks. Read from the default branch only."""

    branches: tuple[str, ...] = ()
    """Globs; `!` in front excludes; the last match decides. Used where the jobset names none."""
    tags: tuple[str, ...] = ()
    """Globs over tags."""


class RootsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """`[roots]`: which results a server keeps alive. Read from the default branch only."""

    branches: tuple[str, ...] = ()
    """Globs of branches whose latest good results are pinned as those of the default branch are; `!` in front excludes,
    the last match decides. One that begins with `refs/` is compared with the whole ref: `refs/tags/v*`."""
    policy: RootPolicy | None = None
    """`require-local`, `pin-if-local` or `pin-in-cache`: what becomes of results that only a cache holds. By default
    what the server says."""
    keep: int | None = None
    """Generations kept of each attribute, the newest one included; by default what the server says, which also has an
    upper bound."""


class ProjectConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """All of `nixmill.toml`."""

    evaluate: EvaluateConfig = EvaluateConfig()
    build: BuildConfig = BuildConfig()
    watch: WatchConfig = WatchConfig()
    roots: RootsConfig = RootsConfig()


def read_config(text: str, where: str = FILE_NAME) -> ProjectConfig:
    """Return the configuration in `text`; raise `InputError` that names the place and the remedy."""
    try:
        return msgspec.convert(tomllib.loads(text), ProjectConfig)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is no valid TOML: {error}.", "Mend the line it names.") from error
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {_sentence(str(error))}", _remedy(str(error))) from error


def _sentence(message: str) -> str:
    text, _, place = message.partition(" - at ")
    table = place.strip("`$.")
    return f"{text} in [{table}]." if table else f"{text}."


def _remedy(message: str) -> str:
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if not unknown:
        return "See docs/configuration.md for the fields and their types."
    known = [
        field.encode_name
        for kind in (ProjectConfig, EvaluateConfig, BuildConfig, WatchConfig, RootsConfig)
        for field in msgspec.structs.fields(kind)
    ]
    close = difflib.get_close_matches(unknown[1], known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known fields: {', '.join(sorted(known))}."
