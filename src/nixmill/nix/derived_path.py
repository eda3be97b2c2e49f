"""Derived paths: what a daemon can be asked to realise. A store path, or outputs of a derivation.

On the wire outputs always follow an exclamation mark (`x.drv!out,dev`, `x.drv!*`); on the command line of Nix 2.13
and newer they follow a caret. Source: `src/libstore/derived-path.cc` (Nix 2.34).
"""

from typing import Final

import msgspec

from nixmill.nix import store_path
from nixmill.nix.store_path import StorePath

ALL: Final[tuple[str, ...]] = ("*",)
"""Every output the derivation has."""


class DerivedPathError(ValueError):
    """The text is not a derived path; the message says why."""


class DerivedPath(msgspec.Struct, frozen=True):
    """A path to be present (`outputs` is None), or outputs of a derivation to be realised."""

    path: StorePath
    outputs: tuple[str, ...] | None = None

    def to_wire(self) -> str:
        """Return the form the daemon reads and answers with."""
        return self.path if self.outputs is None else f"{self.path}!{','.join(self.outputs)}"

    def to_installable(self) -> str:
        """Return the form Nix's command line reads since 2.13."""
        return self.path if self.outputs is None else f"{self.path}^{','.join(self.outputs)}"


def all_outputs(drv_path: StorePath) -> DerivedPath:
    """Return every output of a derivation."""
    return DerivedPath(drv_path, ALL)


def parse(text: str, store_dir: str = store_path.DEFAULT_STORE_DIR) -> DerivedPath:
    """Read either form; raise `DerivedPathError` where it is malformed."""
    path, mark, names = text.partition("!") if "!" in text else text.partition("^")
    try:
        parsed = store_path.parse(path, store_dir)
    except store_path.StorePathError as error:
        raise DerivedPathError(f"{text!r} is no derived path: {error}") from None
    if not mark:
        return DerivedPath(parsed)
    outputs = tuple(names.split(","))
    if not all(outputs):
        raise DerivedPathError(f"{text!r} is no derived path: the name of an output is empty.")
    return DerivedPath(parsed, outputs)
