"""How many workers are of use at a time.

With a store that lacks most derivations a second evaluator often slows the whole down: whenever two processes write to
the store's database at once, one of them sleeps up to 0.1 s (`handleSQLiteBusy` in Nix's `src/libstore/sqlite.cc`). So
the share of time in which workers do not sleep is compared with that of one worker alone, and while several together
hardly do more than one, some rest; later they are given another chance.
What this file does not know: processes, and what they do. Pure: it is told the time and what was measured.
"""

from typing import Final

ALONE_S: Final = 0.3
"""How long one worker is watched alone; an evaluation that is over by then needs no second."""
WINDOW_S: Final = 0.75
"""How long a number of workers is watched before it is judged."""
WORTH: Final = 0.65
"""Each of n workers must do at least this share of what one does alone."""
REST_S: Final = 2.0
"""After how long resting workers are given another chance; doubled each time in vain."""
REST_MAX_S: Final = 16.0


class Governor:
    """Says how many workers may walk; told every few milliseconds what they did."""

    def __init__(self, workers: int, now: float) -> None:
        """Begin with one of `workers`."""
        self.allowed = 1
        self._workers = workers
        self._alone: float | None = None
        """Seconds awake per second of one worker alone."""
        self._rest_s = REST_S
        self._chance_at = now
        self._begin_window(now)

    def _begin_window(self, now: float) -> None:
        self._from = now
        self._awake_s = 0.0
        self._last = now

    def saw(self, now: float, awake_s: float, busy: int) -> None:
        """Hear that since the last time `busy` workers were walking and were awake for `awake_s` seconds in all."""
        since, self._last = now - self._last, now
        if busy < self.allowed:
            # Whoever waits for work is no measure.
            self._from += since
            return
        self._awake_s += awake_s
        watched = now - self._from
        if self._alone is None:
            if watched >= ALONE_S:
                self._alone = max(self._awake_s / watched, 0.01)
                self._allow(self._workers, now)
        elif self.allowed > 1 and watched >= WINDOW_S:
            self._judge(self._awake_s / watched / self._alone, now)
        elif self.allowed < self._workers and now >= self._chance_at:
            if self.allowed == 1 and watched >= ALONE_S:
                # What one alone does is known better after its start.
                self._alone = max(self._awake_s / watched, 0.01)
            self._allow(self._workers, now)

    def _judge(self, useful: float, now: float) -> None:
        """Decide whether the workers allowed now do the work of enough."""
        if useful >= WORTH * self.allowed:
            self._rest_s = REST_S
            self._begin_window(now)
            return
        self._allow(max(1, min(self.allowed - 1, int(useful / WORTH))), now)
        self._chance_at = now + self._rest_s
        self._rest_s = min(2 * self._rest_s, REST_MAX_S)

    def _allow(self, workers: int, now: float) -> None:
        self.allowed = workers
        self._begin_window(now)
