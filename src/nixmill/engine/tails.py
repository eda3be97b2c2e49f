"""The last lines of logs, for root causes. The log of an attempt that has ended never changes, so they are kept."""

import codecs
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.core.view.parts import Cause
from nixmill.doors import Logs

LINES: Final = 10
CAUSES: Final = 5
"""Root causes whose last lines are shown; the others have a link."""
_LOG_MAX: Final = 8 * 1024 * 1024
"""Bytes of a log that are read for its last lines; a longer one is opened on its own page."""
_KEPT_MAX: Final = 500
_kept: OrderedDict[tuple[Logs, int], tuple[str, ...]] = OrderedDict()
"""By where logs are and attempt. What was empty is looked at again."""


async def filled(logs: Logs, causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Return causes, the first few with the last lines of their logs."""
    first = [
        cause
        if cause.tail or cause.attempt is None
        else msgspec.structs.replace(cause, tail=await tail(logs, cause.attempt))
        for cause in causes[:CAUSES]
    ]
    return (*first, *causes[CAUSES:])


async def tail(logs: Logs, attempt: int) -> tuple[str, ...]:
    """Return the last lines of an ended attempt's log, empty ones at its end left out."""
    key = (logs, attempt)
    if key in _kept:
        return _kept[key]
    found = await _read(logs, attempt)
    if found:
        _kept[key] = found
    if len(_kept) > _KEPT_MAX:
        _kept.popitem(last=False)
    return found


async def _read(logs: Logs, attempt: int) -> tuple[str, ...]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last: deque[str] = deque(maxlen=LINES)
    rest = ""
    async for chunk in logs.read(attempt, limit=_LOG_MAX):
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        last.extend(line for line in whole if line.strip())
    if rest.strip():
        last.append(rest)
    return tuple(last)
