"""What one evaluation of a stranger's change may know of a store: what it was given, and what it added itself.

To know a path's name, or the hash of its contents, is no permission to read it. A path outside the view is not valid,
whatever the store says; Nix then fetches or writes it, and so proves that it has the contents.
What this file does not know: daemons, sockets, how paths become visible in the sandbox.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from nixmill.core import derivation_escape
from nixmill.nix import content_address, derivation, derived_path, store_path
from nixmill.nix.content_address import ContentAddress, ContentAddressError, Method
from nixmill.nix.derivation import Derivation, DerivationError
from nixmill.nix.derived_path import DerivedPath, DerivedPathError
from nixmill.nix.store_path import StorePath, StorePathError

BYTES_MAX: Final = 8 * 1024 * 1024 * 1024
"""What an evaluation may add by default: several copies of nixpkgs and many large inputs."""
PATHS_MAX: Final = 500_000
"""How many paths an evaluation may add by default: all of nixpkgs, for several systems."""

_SHOWN: Final = 400
_OUTPUT_NAME: Final = re.compile(r"[0-9a-zA-Z+\-._?=]{1,211}\Z")
_DERIVATION_SUFFIX: Final = ".drv"


class RefusedError(Exception):
    """An evaluation asked for something it may not have; the message says what, and why."""

    def __init__(self, message: str, path: str = "") -> None:
        """Refuse; `path` is given where that was all that is wrong: a path outside the view."""
        super().__init__(message)
        self.path = path


class StoreView:
    """See the module. Mutable: it grows with what the evaluation adds."""

    def __init__(
        self,
        readable: Collection[StorePath],
        *,
        store_dir: str = store_path.DEFAULT_STORE_DIR,
        allow_builds: bool = False,
        bytes_max: int = BYTES_MAX,
        paths_max: int = PATHS_MAX,
    ) -> None:
        """Start with what may be read; `allow_builds` lets the evaluation build derivations that it made.

        A fixed-output derivation proves nothing: where its output is valid already, whoever knows the hash reads it.
        So allow builds only where the store holds nothing that this evaluation's authors may not see.
        """
        self.store_dir = store_dir
        self.allow_builds = allow_builds
        self._by_hash = {store_path.hash_part(path): path for path in readable}
        self._known = set(readable)
        self._made: set[StorePath] = set()
        self._bytes_max = bytes_max
        self._bytes_left = bytes_max
        self._paths_max = paths_max

    def find(self, text: str) -> StorePath | None:
        """Return a path where it is in the view, None where it is another path; refuse what is no path."""
        if text in self._known:
            return StorePath(text)
        try:
            store_path.parse(text, self.store_dir)
        except StorePathError as error:
            raise RefusedError(f"The request was refused: {_short(str(error))}") from None
        return None

    def knows(self, path: str) -> bool:
        """Say whether a path is in the view."""
        return path in self._known

    def need(self, text: str, purpose: str) -> StorePath:
        """Return a path of the view; refuse any other. `purpose` begins the sentence, such as `Reading`."""
        path = self.find(text)
        if path is None:
            raise RefusedError(f"{purpose} {_short(text)} was refused: {_FOREIGN}", text)
        return path

    def from_hash_part(self, part: str) -> StorePath | None:
        """Return the path of the view that has this hash in its name."""
        return self._by_hash.get(part)

    def spend(self, count: int) -> None:
        """Count bytes that the evaluation adds; refuse them when it has added too much."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise RefusedError(
                f"Adding to the store was refused: this evaluation has added more than {self._bytes_max} bytes. "
                "Add less, or have the limit raised."
            )

    def admit(self, name: str, method: str, references: Iterable[str]) -> Method:
        """Return how contents are to be added under a name, or refuse them before they are seen."""
        try:
            found = content_address.parse_method(method)
            store_path.parse(f"{self.store_dir}/{'0' * store_path.HASH_LENGTH}-{name}", self.store_dir)
        except (ContentAddressError, StorePathError) as error:
            raise RefusedError(f"Adding {_short(name)} was refused: {_short(str(error))}") from None
        if name.endswith(_DERIVATION_SUFFIX) and found.kind != "text":
            raise RefusedError(
                f"Adding {_short(name)} was refused: its name is a derivation's, and its contents come as a "
                "file or directory. Give it another name."
            )
        for reference in references:
            self.need(reference, f"Adding {_short(name)} with a reference to")
        if len(self._made) >= self._paths_max:
            raise RefusedError(
                f"Adding {_short(name)} was refused: this evaluation has added {self._paths_max} paths. "
                "Add fewer, or have the limit raised."
            )
        return found

    def admit_proved(self, path: str, address: str, references: Collection[str]) -> ContentAddress:
        """Return the address that a path claims, or refuse a path that does not follow from its contents."""
        if not address:
            raise RefusedError(
                f"Adding {_short(path)} was refused: it is not content-addressed, so nothing proves its contents. "
                "A change may bring sources and derivations into the store, not results of builds."
            )
        try:
            found = content_address.parse(address)
            name = store_path.name_part(store_path.parse(path, self.store_dir))
            self.admit(name, found.method.prefix, references)
            expected = content_address.path_of(found, name, references, self.store_dir)
        except (ContentAddressError, StorePathError) as error:
            raise RefusedError(f"Adding {_short(path)} was refused: {_short(str(error))}") from None
        if expected != path:
            raise RefusedError(f"Adding {_short(path)} was refused: contents of that address belong to {expected}.")
        return found

    def check_text(self, name: str, content: bytes, references: Collection[str]) -> None:
        """Refuse a derivation that is malformed, leaves the sandbox, or uses what is not in the view."""
        if not name.endswith(_DERIVATION_SUFFIX):
            return
        try:
            parsed, reason = derivation_escape.read(derivation.decode(content))
        except DerivationError as error:
            raise RefusedError(f"Adding {_short(name)} was refused: {_short(str(error))}") from None
        if reason:
            raise RefusedError(
                f"Adding the derivation {_short(name)} was refused: {reason}. "
                "A change that is not trusted may not ask for that."
            )
        self._check_inputs(name, parsed, references)
        self._check_outputs(name, parsed)

    def added(self, path: StorePath) -> None:
        """Take a path into the view that the evaluation has proved to have the contents of."""
        self._made.add(path)
        self.reveal(path)

    def reveal(self, path: StorePath) -> None:
        """Take a path into the view that follows from what the evaluation made, such as the result of a build."""
        self._known.add(path)
        self._by_hash[store_path.hash_part(path)] = path

    def buildable(self, targets: Iterable[str]) -> list[DerivedPath]:
        """Return what is to be built or present; refuse what the evaluation may not build."""
        return [self._buildable(target) for target in targets]

    def split_targets(self, targets: Iterable[str]) -> tuple[list[StorePath], list[StorePath]]:
        """Return the derivations of the view among `targets`, and the paths that are not in it."""
        parsed = [self._target(target) for target in targets]
        drvs = {target.path for target in parsed if target.outputs is not None and target.path in self._known}
        return sorted(drvs), sorted({target.path for target in parsed if target.path not in self._known})

    def _buildable(self, text: str) -> DerivedPath:
        target = self._target(text)
        if target.outputs is None:
            self.need(target.path, "Fetching")
            return target
        if not self.allow_builds:
            raise RefusedError(
                f"Building {_short(text)} was refused: building during evaluation (import-from-derivation) is off. "
                "It can be allowed in the configuration on the default branch."
            )
        if target.path not in self._made:
            raise RefusedError(
                f"Building {_short(text)} was refused: only derivations that this evaluation made may be built."
            )
        return target

    def _target(self, text: str) -> DerivedPath:
        try:
            target = derived_path.parse(text, self.store_dir)
        except DerivedPathError as error:
            raise RefusedError(f"The request was refused: {_short(str(error))}") from None
        names = target.outputs or ()
        if target.outputs is not None and target.outputs != derived_path.ALL and not all(map(_is_output, names)):
            raise RefusedError(f"The request was refused: {_short(text)} names an output that cannot exist.")
        return target

    def _check_inputs(self, name: str, parsed: Derivation, references: Collection[str]) -> None:
        inputs = {*parsed.input_srcs, *parsed.input_drvs}
        for path in inputs:
            if path not in self._known:
                self.need(path, f"Adding the derivation {_short(name)} with the input")
        if inputs != set(references):
            raise RefusedError(f"Adding the derivation {_short(name)} was refused: its references are not its inputs.")

    def _check_outputs(self, name: str, parsed: Derivation) -> None:
        for output, declared in parsed.outputs.items():
            if not _is_output(output):
                reason = f"{_short(output)} cannot be the name of an output."
                raise RefusedError(f"Adding the derivation {_short(name)} was refused: {reason}")
            if declared.path:
                self._check_output_path(name, declared.path)

    def _check_output_path(self, name: str, path: str) -> None:
        try:
            store_path.parse(path, self.store_dir)
        except StorePathError as error:
            raise RefusedError(
                f"Adding the derivation {_short(name)} was refused: its output {_short(str(error))}"
            ) from None


_FOREIGN: Final = (
    "it is neither one of the inputs nor made by this evaluation. Knowing the name of a path gives no right to read it."
)


def _is_output(name: str) -> bool:
    return _OUTPUT_NAME.match(name) is not None


def _short(text: str) -> str:
    """Return a stranger's text without control characters, cut visibly."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_SHOWN])
    return shown if len(text) <= _SHOWN else shown + "…"
