"""Events as lines of JSON on standard output, for programs.

Names are stable: `event` is in kebab case, fields are in snake case.
"""

import json
from typing import Any, Final

import msgspec

from nixmill.cli.render.sink import Sink
from nixmill.core.run_event import RunEvent

_TAG: Final = "type"


def as_object(event: RunEvent) -> dict[str, Any]:
    """Return the event as an object whose `event` says what happened, such as `work-ended`."""
    fields = msgspec.to_builtins(event)
    name = fields.pop(_TAG).replace(" ", "-")
    for value in fields.values():
        if isinstance(value, dict):
            value.pop(_TAG, None)  # the field's name says it already
    return {"event": name, **fields}


def line(event: RunEvent) -> str:
    """Return the event as one line of JSON without its end."""
    return json.dumps(as_object(event), separators=(",", ":"))


class JsonlRenderer:
    """Writes every event at once. See `Renderer` for its methods; time means nothing to it."""

    def __init__(self, sink: Sink) -> None:
        """Write to `sink`, which must raise where nobody reads any more."""
        self._sink = sink

    def handle(self, event: RunEvent) -> None:
        """Write the event."""
        self._sink.write(line(event) + "\n")

    def tick(self, now: float) -> None:
        """Do nothing."""

    def suspend(self) -> None:
        """Do nothing: standard output is not the terminal's to give."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: everything is written."""
