"""Lines of patches by which the hash of a fixed output comes or changes.

A build with such a hash has the network in Nix's sandbox, so an approver should see it. Texts are compared, nothing is
evaluated: a hash that is put together by code is not found.
"""

import re
from collections.abc import Iterable
from typing import Final

from nixmill.core.merged import Patch

LINES_MAX: Final = 200
_LINE_MAX: Final = 300
_HASH: Final = re.compile(
    r"(?:sha(?:1|256|512)|blake3)[-:][0-9A-Za-z+/=]{20,}"
    r"|\b(?:outputHash|sha256|sha512|sha1|hash|narHash|vendorHash|cargoHash|npmDepsHash)\b\"?\s*[=:]\s*\S"
)
"""An SRI or old hash, or an attribute that holds one."""


def changed_hashes(patches: Iterable[Patch]) -> tuple[str, ...]:
    """Return added lines with a hash, as `path: line`; the last says how many are left out."""
    found = [f"{patch.path}: {line}" for patch in patches for line in _lines(patch)]
    more = len(found) - LINES_MAX
    return (*found[:LINES_MAX], f"and {more} more") if more > 0 else tuple(found)


def _lines(patch: Patch) -> Iterable[str]:
    """Yield added lines; the header ends where the first hunk begins, and `+++ [` is a line that begins with `++ [`."""
    _, _, hunks = patch.text.partition("\n@@ ")
    for line in hunks.split("\n"):
        if line.startswith("+") and _HASH.search(line):
            yield line[1:].strip()[:_LINE_MAX]
