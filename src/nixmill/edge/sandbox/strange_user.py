"""The user that an evaluation is for the machine where the server is root: one that nobody else is.

`nobody` is many: what runs as one user can look into whatever else does. So each evaluation has a number of its own,
from a range that nothing is known to use. In its sandbox it is nobody all the same.
Source: systemd's "Users, Groups, UIDs and GIDs", which lists 1879048192 to 2147352575 as unused.
"""

import itertools
import os
from pathlib import Path
from typing import Final

from nixmill.edge.sandbox.bwrap_command import NOBODY

FIRST: Final = 1_879_048_192
_PROCESSES: Final = 1 << 14
_EACH: Final = 1 << 10
_count = itertools.count()


def next_user() -> int | None:
    """Return the user and group for another evaluation; None where we are not root, so that it is ourselves."""
    if os.geteuid() != 0:
        return None
    wanted = FIRST + os.getpid() % _PROCESSES * _EACH + next(_count) % _EACH
    maps = Path("/proc/self/uid_map").read_text(encoding="ascii")
    return wanted if is_mapped(wanted, maps) else NOBODY


def is_mapped(user: int, maps: str) -> bool:
    """Say whether a user exists where these are the maps (user_namespaces(7)): in a container many do not."""
    ranges = [tuple(map(int, line.split())) for line in maps.splitlines()]
    return any(first <= user < first + count for first, _, count in ranges)
