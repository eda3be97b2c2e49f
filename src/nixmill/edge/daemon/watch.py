"""One attempt as its daemon tells it: from events of the connection to what an observer hears.

Keeps what the result will not say: when the builder started, and when it last printed anything.
"""

import time

from nixmill.doors import BuildLimits, BuildObserver
from nixmill.nix import log_events
from nixmill.nix.build_result import BuildResult, BuildStatus, Detail
from nixmill.nix.log_events import ActivityKind, LogEvent

_SLACK_S = 0.5
"""Nix counts whole seconds."""


class Watch:
    """A listener for one operation."""

    def __init__(self, observer: BuildObserver, limits: BuildLimits) -> None:
        """Tell `observer` what happens under `limits`."""
        self._observer = observer
        self._limits = limits
        self._started_at: float | None = None

    def __call__(self, event: LogEvent) -> None:
        """Pass an event on."""
        match event:
            case log_events.LogLine(text=text):
                self._observer.line(text)
            case log_events.PhaseBegan(name=name):
                self._observer.phase(name)
            case log_events.Started(kind=kind):
                if kind in {ActivityKind.BUILD, ActivityKind.SUBSTITUTE} and self._started_at is None:
                    self._started_at = time.monotonic()
                    self._observer.started()
            case log_events.Message(text=text):
                directory = log_events.kept_directory(text)
                if directory is not None:
                    self._observer.kept(directory)
            case log_events.Stopped():
                pass

    def judge(self, result: BuildResult) -> BuildResult:
        """Say which limit ended the builder, where the daemon's words leave it open (Nix 2.34 and newer)."""
        if result.status is not BuildStatus.TIMED_OUT or result.detail is not None or not self._was_silence():
            return result
        return BuildResult(status=result.status, message=result.message, outputs=result.outputs, detail=Detail.SILENCE)

    def _was_silence(self) -> bool:
        limits = self._limits
        if not (limits.silence_s and limits.timeout_s) or self._started_at is None:
            return bool(limits.silence_s)
        return time.monotonic() - self._started_at < limits.timeout_s - _SLACK_S
