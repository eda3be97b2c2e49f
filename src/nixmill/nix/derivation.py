"""Derivations and their ATerm form.

Source: Nix manual, "Derivation"; `src/libstore/derivations.cc` (Nix 2.34).
"""

import msgspec

from nixmill.nix.store_path import StorePath


class DerivationOutput(msgspec.Struct, frozen=True):
    """One output as the derivation declares it; `path` is empty where only a build can tell it."""

    path: str
    hash_algorithm: str = ""
    """`sha256`, `r:sha256`, … for fixed-output and floating content-addressed outputs."""
    hash: str = ""
    """Hexadecimal, for fixed outputs."""


class Derivation(msgspec.Struct, frozen=True):
    """A derivation as its `.drv` file says. `environment` is left empty where only the head was read."""

    outputs: dict[str, DerivationOutput]
    input_drvs: dict[StorePath, tuple[str, ...]]
    """Derivation → names of its outputs that are needed."""
    input_srcs: tuple[StorePath, ...]
    system: str = ""
    builder: str = ""
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
