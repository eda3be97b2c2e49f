"""Derivations that ask for more than a sandboxed build: found before a daemon hears of them.

What this file does not know: which paths an evaluation may use (`store_view`), and what a daemon's own settings allow.
Source: Nix manual, "Advanced Attributes"; `src/libstore/derivation-options.cc` (Nix 2.34).
"""

import json
from collections.abc import Iterable
from typing import Final

from nixmill.nix import derivation
from nixmill.nix.derivation import Derivation, DerivationError

NO_CHROOT: Final = "__noChroot"
HOST_DEPS: Final = "__impureHostDeps"
SANDBOX_PROFILE: Final = "__sandboxProfile"
LOCAL_NETWORKING: Final = "__darwinAllowLocalNetworking"
STRUCTURED: Final = "__json"
DARWIN_HOST_DEPS: Final = ("/System/Library", "/usr/lib", "/dev", "/bin/sh")
"""What Nix on macOS lets every build read by default, and nixpkgs names in every derivation for macOS."""

_ESCAPES: Final = (NO_CHROOT, HOST_DEPS, SANDBOX_PROFILE, LOCAL_NETWORKING)
_WORTH_A_LOOK: Final = (*_ESCAPES, STRUCTURED, "\\_")
"""No escape can be spelled without one of these: ATerm allows a backslash before any character."""
_IMPURE: Final = "impure"


def read(text: str) -> tuple[Derivation, str]:
    """Return a derivation's head, and why it may not be built; empty where nothing is wrong with it.

    Raises `DerivationError` where the text is none. Nearly all derivations hold no suspicious word and cost little.
    """
    head = derivation.parse_head(text)
    if any(output.hash == _IMPURE for output in head.outputs.values()):
        return head, "it is impure, so its build would have the network without saying what it fetches"
    if not any(word in text for word in _WORTH_A_LOOK):
        return head, ""
    whole = derivation.parse(text)
    if derivation.unparse(whole) != text:
        raise DerivationError("No derivation: it is not written as Nix writes it.")
    return head, _escape_of(whole)


def _escape_of(whole: Derivation) -> str:
    for name, value in (*whole.environment.items(), *_structured(whole)):
        if name in _ESCAPES and (reason := _reason(name, value, whole.system)):
            return reason
    return ""


def _structured(whole: Derivation) -> Iterable[tuple[str, object]]:
    """Return the outermost structured attributes, each as often as it occurs."""
    if STRUCTURED not in whole.environment:
        return ()
    try:
        pairs = json.loads(whole.environment[STRUCTURED], object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise DerivationError("No derivation: its structured attributes are not JSON.") from None
    if not isinstance(pairs, _Pairs):
        raise DerivationError("No derivation: its structured attributes are not a JSON object.")
    return pairs


class _Pairs(list[tuple[str, object]]):
    """A JSON object, with keys that occur twice."""


def _reason(name: str, value: object, system: str) -> str:
    """Return why this value of an attribute is too much to ask; empty where it asks for nothing."""
    words = _words(value)
    if not words:
        return ""
    if name == HOST_DEPS and system.endswith("-darwin") and all(map(_always_there, words)):
        return ""
    return f"it sets {name}, which asks for a build outside the sandbox"


def _words(value: object) -> list[str]:
    """Return what is left of a value that is neither false nor blank."""
    if value is None or value is False:
        return []
    items = value if isinstance(value, list) and not isinstance(value, _Pairs) else [value]
    return [word for item in items for word in str(item).split()]


def _always_there(path: str) -> bool:
    inside = any(path == prefix or path.startswith(f"{prefix}/") for prefix in DARWIN_HOST_DEPS)
    return inside and ".." not in path.split("/")
