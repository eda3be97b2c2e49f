"""Realisations: what an output of a derivation came out as, where its path does not follow from the derivation.

Such are floating content-addressed outputs, and those of whatever is built from them. Nix 2.8, 2.26 and 2.34 write the
same JSON; 2.34 leaves `dependentRealisations` empty, but signs it all the same. Source: `src/libstore/realisation.cc`.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from nixmill.nix.store_path import StorePath, StorePathError, base_name
from nixmill.nix.store_path import parse as parse_path

SIZE_MAX: Final = 256 * 1024
"""Bytes of a realisation that are read from a cache."""


class RealisationError(ValueError):
    """The text is no realisation; the message repeats the beginning of it."""


class Realisation(msgspec.Struct, frozen=True, kw_only=True):
    """One output and its path."""

    id: str
    """`sha256:HEX!OUTPUT`: a hash of the derivation without its own output paths, and the name of the output."""
    out_path: StorePath
    signatures: tuple[str, ...] = ()
    dependent: Mapping[str, StorePath] = {}
    """By id: realisations of inputs that the path refers to. A client wants these, too."""

    @property
    def output(self) -> str:
        """Return the name of the output."""
        return self.id.partition("!")[2]


class _Json(msgspec.Struct):
    id: str
    outPath: str  # noqa: N815 - Nix's own name
    signatures: tuple[str, ...] = ()
    dependentRealisations: dict[str, str] = {}  # noqa: N815 - Nix's own name


_decoder: Final = msgspec.json.Decoder(_Json)


def parse(text: str | bytes, store_dir: str) -> Realisation:
    """Read a realisation; raise `RealisationError` where it is none."""
    try:
        found = _decoder.decode(text)
        return Realisation(
            id=found.id,
            out_path=parse_path(f"{store_dir}/{found.outPath}", store_dir),
            signatures=found.signatures,
            dependent={
                key: parse_path(f"{store_dir}/{base}", store_dir) for key, base in found.dependentRealisations.items()
            },
        )
    except (msgspec.MsgspecError, StorePathError, UnicodeDecodeError, RecursionError) as error:
        raise RealisationError(f"{text[:100]!r} is no realisation: {error}") from None


def fingerprint(realisation: Realisation) -> bytes:
    """Return what a signature is made over: the JSON without signatures, its keys in order."""
    return msgspec.json.encode(_facts(realisation), order="sorted")


def write(realisation: Realisation) -> bytes:
    """Return the JSON as Nix writes it."""
    return msgspec.json.encode({**_facts(realisation), "signatures": realisation.signatures}, order="sorted")


def _facts(realisation: Realisation) -> dict[str, object]:
    dependent = {key: base_name(path) for key, path in realisation.dependent.items()}
    return {"dependentRealisations": dependent, "id": realisation.id, "outPath": base_name(realisation.out_path)}
