"""Which process is meant by a number: process ids are used again, identities are not.

An identity is made of the boot and the tick at which the process started, neither of which depends on the clock.
Source: proc(5), `/proc/PID/stat` field 22. Without `/proc` an identity is empty, and only the number counts.
"""

import os
from pathlib import Path


def identity(process: int) -> str:
    """Return the identity of a running process; empty where it is gone or the system does not tell."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
    # The program's name, in parentheses, may itself hold parentheses and spaces.
    fields = stat.rpartition(")")[2].split()
    return f"{boot}/{fields[19]}"


def runs(process: int, known_as: str) -> bool:
    """Say whether the process that once had this number and identity still runs."""
    if known_as:
        return identity(process) == known_as
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
