"""How an attribute ended, as the parts of a run hand it on."""

from collections.abc import Mapping, Sequence

import msgspec

from nixmill.core.evaluation import Attribute
from nixmill.core.outcome import Outcome
from nixmill.nix.store_path import StorePath


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How an attribute ended."""

    attribute: Attribute
    outcome: Outcome
    how: str
    culprit: StorePath | None = None
    culprit_outcome: Outcome | None = None
    seconds: float = 0.0
    outputs: Mapping[str, StorePath | None] = {}
    """Of a good one, as far as they are known."""

    @property
    def good(self) -> bool:
        """Say whether it ended well."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def paths(self) -> Sequence[StorePath]:
        """Return the paths of its outputs."""
        return [path for path in self.outputs.values() if path is not None]
