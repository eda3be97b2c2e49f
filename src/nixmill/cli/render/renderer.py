"""What every renderer can do, and nothing more: the command feeds it events and time."""

from typing import Protocol

from nixmill.core.run_event import RunEvent


class Renderer(Protocol):
    """Shows a run. One owner, one thread. Methods return at once, but for the write to the terminal itself."""

    def handle(self, event: RunEvent) -> None:
        """Take in an event; it may be shown at the next `tick`."""

    def tick(self, now: float) -> None:
        """Show what is due at `now` (monotonic seconds); call it about ten times a second."""

    def suspend(self) -> None:
        """Leave the terminal to someone else, clean and with its cursor; events are kept until `resume`."""

    def resume(self) -> None:
        """Take the terminal back and show what was kept."""

    def close(self) -> None:
        """Show everything that is still to be said and leave the terminal clean; may be called twice."""
