"""The workers of one group of targets: who walks what, what is done when one is lost, and their limits.

Decides when a process is started, stopped and replaced, and what becomes of the attribute it was lost with. A process
whose records have not been consumed is never ended by us: their derivations are alive only as long as it is.
What this file does not know: how a worker is driven (`worker.py`) and what it says (`records.py`).
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

from nixmill.core.evaluation import Attribute, EvalError, EvalFault, EvalRecord, EvaluationLimits
from nixmill.edge.evaluator import complaints, faults
from nixmill.edge.evaluator.governor import Governor
from nixmill.edge.evaluator.log_lines import LogEvent, Said, Stray
from nixmill.edge.evaluator.records import Context, Item, Reader
from nixmill.edge.evaluator.segments import Batch, Frontier, OverrunError, Pace
from nixmill.edge.evaluator.worker import Worker
from nixmill.nix import eval_message
from nixmill.nix.attr_path import show

WATCH_SECONDS: Final = 0.05
STUCK_SECONDS: Final = 0.5
"""A worker that is at one item for so long may lose the rest of its batch to one that is idle."""
RETIRE_SHARE: Final = 0.75
"""A worker that has come so near its memory limit is replaced after its batch."""
LOSSES_MAX: Final = 3
"""So many processes in a row may end without having begun anything."""
TROUBLES_MAX: Final = 5
"""So many attributes in a row may fail for reasons of the store or the machine."""
STRAYS_MAX: Final = 20


class Hand:
    """One of the crew: a place for a worker, which may be replaced."""

    def __init__(self) -> None:
        """Begin without a process."""
        self.worker: Worker | None = None
        self.reader: Reader | None = None
        self.pace = Pace()
        self.batch: Batch | None = None
        """What it was asked to walk, while it does."""
        self.records: list[EvalRecord] = []
        self.strays: list[str] = []
        self.verdict: EvalFault | None = None
        """Why we end the process."""
        self.began = 0.0
        """When the item at hand was begun, moved on by the time its reader was not listening."""
        self.losses = 0
        self.awake_s = 0.0
        """What `EvalProcess.awake_s` said last."""
        self.parcels = 0
        self._consumed = asyncio.Event()
        self._consumed.set()

    @property
    def item(self) -> Item | None:
        """The attribute at hand."""
        return self.reader.item if self.reader is not None else None

    def sent(self) -> None:
        """Hear that a parcel of records is on its way to the consumer."""
        self.parcels += 1
        self._consumed.clear()

    def consumed(self) -> None:
        """Hear that the consumer has asked for more after the last record of a parcel."""
        self.parcels -= 1
        if not self.parcels:
            self._consumed.set()

    async def settled(self) -> None:
        """Wait until the consumer has done with everything from this process."""
        await self._consumed.wait()


Parcel = tuple[Hand, list[EvalRecord]]


class Crew:
    """Walks one group of targets to the end."""

    def __init__(
        self,
        *,
        start: Callable[[], Awaitable[Worker]],
        frontier: Frontier,
        context: Context,
        limits: EvaluationLimits,
        governed: bool,
        deliver: Callable[[Parcel], Awaitable[None]],
    ) -> None:
        """Start workers by `start`, hand parcels of records to `deliver`, which waits while the consumer is behind.

        `governed` crews let workers rest that keep each other asleep; not where they sleep for good reason.
        """
        self._start = start
        self._frontier = frontier
        self._context = context
        self._limits = limits
        self._deliver = deliver
        self._hands = [Hand() for _ in range(max(1, limits.workers))]
        self._changed = asyncio.Condition()
        self._governor = Governor(len(self._hands), time.monotonic())
        self._governed = governed
        if not governed:
            self._governor.allowed = len(self._hands)
        self._troubles = 0
        self.peak_bytes = 0
        self.started = 0
        """How many of the crew ever had a process."""

    async def run(self) -> None:
        """Walk everything; raise `EvaluationFailedError` (and those of `records.py`) for the whole."""
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for hand in self._hands:
                    group.create_task(self._work(hand))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def close(self) -> None:
        """End all processes at once."""
        await asyncio.gather(*(self._dismiss(hand) for hand in self._hands))

    def busy(self) -> list[str]:
        """Return the attributes being evaluated, for people."""
        return [show(hand.item.path) or "the root" for hand in self._hands if hand.item is not None]

    async def _work(self, hand: Hand) -> None:
        while (batch := await self._next(hand)) is not None:
            try:
                await self._walk(hand, batch)
            finally:
                self._frontier.give_back(batch)
                async with self._changed:
                    self._changed.notify_all()

    async def _next(self, hand: Hand) -> Batch | None:
        async with self._changed:
            while not self._frontier.finished:
                batch = self._batch_for(hand)
                if batch is not None:
                    return batch
                await self._changed.wait()
        return None

    def _batch_for(self, hand: Hand) -> Batch | None:
        if self._hands.index(hand) >= self._governor.allowed:
            return None
        if self._frontier.available:
            return self._frontier.take(hand.pace.size, len(self._hands))
        stuck = max(self._hands, key=_stuck_with)
        return self._frontier.rob(stuck.batch) if stuck.batch is not None and _stuck_with(stuck) else None

    async def _walk(self, hand: Hand, batch: Batch) -> None:
        if batch.alone:
            await self._retire(hand)
        try:
            await self._ready(hand)
            began, count = time.monotonic(), len(batch)
            self._send(hand, batch)
            await self._listen(hand)
        except EOFError:
            await self._lost(hand, batch)
            return
        except OverrunError:
            await self._flush(hand)
            await self._retire(hand)
            return
        finally:
            hand.batch = None
        hand.losses = 0
        hand.pace.learn(count - len(batch), time.monotonic() - began)
        await self._after(hand, batch)

    def _send(self, hand: Hand, batch: Batch) -> None:
        assert hand.worker is not None and hand.reader is not None  # noqa: S101, PT018 - `_ready` has seen to it
        hand.reader.expect(batch)
        hand.worker.send(batch)
        hand.began, hand.batch = time.monotonic(), batch

    async def _ready(self, hand: Hand) -> None:
        if hand.worker is not None:
            return
        hand.verdict, hand.strays, hand.began = None, [], time.monotonic()
        hand.worker = await self._start()
        hand.reader = Reader(self._frontier, self._context, hand.records.append)
        self.started = max(self.started, sum(h.worker is not None for h in self._hands))
        await self._listen(hand)

    async def _listen(self, hand: Hand) -> None:
        """Hear a worker out until it says that it is done; raise `EOFError` if it is gone."""
        assert hand.worker is not None and hand.reader is not None  # noqa: S101, PT018 - called with a process only
        done = False
        while not done:
            events = await hand.worker.events()
            now = time.monotonic()
            for event in events:
                done = self._hear(hand, hand.reader, event, now) or done
            await self._flush(hand)
        if hand.reader.unpinned is not None:
            raise complaints.not_started(hand.reader.unpinned, 0)

    def _hear(self, hand: Hand, reader: Reader, event: LogEvent, now: float) -> bool:
        if isinstance(event, Stray):
            hand.strays = [*hand.strays[-STRAYS_MAX:], event.text]
        items = reader.items
        reader.hear(event, now)
        if reader.items != items:
            hand.began = now
        return isinstance(event, Said) and event.letter == "."

    async def _flush(self, hand: Hand) -> None:
        for record in hand.records:
            self._look_for_trouble(record)
        if hand.records:
            parcel, hand.records[:] = list(hand.records), []
            before = time.monotonic()
            hand.sent()
            await self._deliver((hand, parcel))
            hand.began += time.monotonic() - before
        if self._frontier.available:
            async with self._changed:
                self._changed.notify_all()

    def _look_for_trouble(self, record: EvalRecord) -> None:
        """Raise when attributes keep failing in a row for a reason that is not theirs."""
        if isinstance(record, Attribute):
            self._troubles = 0
        elif isinstance(record, EvalError) and faults.is_trouble(record.message):
            self._troubles += 1
            if self._troubles >= TROUBLES_MAX:
                raise complaints.store_trouble(record)

    async def _after(self, hand: Hand, batch: Batch) -> None:
        assert hand.worker is not None  # noqa: S101 - it has just answered
        used = hand.worker.process.memory_bytes() or 0
        self.peak_bytes = max(self.peak_bytes, hand.worker.process.peak_bytes)
        if batch.alone or used > self._limits.memory_bytes * RETIRE_SHARE:
            await self._retire(hand)

    async def _retire(self, hand: Hand) -> None:
        if hand.worker is not None:
            await hand.settled()
            await self._dismiss(hand)

    async def _dismiss(self, hand: Hand) -> None:
        worker, hand.worker, hand.reader = hand.worker, None, None
        if worker is not None:
            worker.process.measure_peak()
            self.peak_bytes = max(self.peak_bytes, worker.process.peak_bytes)
            await worker.process.kill()

    async def _lost(self, hand: Hand, batch: Batch) -> None:
        """Decide what becomes of the item a process was lost with."""
        assert hand.worker is not None and hand.reader is not None  # noqa: S101, PT018 - it was just being read
        process, reader = hand.worker.process, hand.reader
        status = await process.wait()
        item, said = reader.item, "\n".join(hand.strays)
        if item is None:
            self._count_loss(hand, reader.unpinned or said, status)
        elif item.job is not None or item.failure is not None:
            reader.finish()
        else:
            self._blame(hand, item, batch, status)
        reader.item = None
        await self._flush(hand)
        await self._dismiss(hand)

    def _count_loss(self, hand: Hand, said: str, status: int) -> None:
        hand.losses += 1
        worked = hand.reader is not None and hand.reader.items > 0
        if hand.losses >= LOSSES_MAX or (status >= 0 and not worked):
            raise complaints.not_started(said, status)

    def _blame(self, hand: Hand, item: Item, batch: Batch, status: int) -> None:
        assert hand.worker is not None and hand.reader is not None  # noqa: S101, PT018 - see `_lost`
        fault = hand.verdict or _cause(status, "\n".join(hand.strays))
        first = batch.alone or hand.reader.items == 1
        if fault in (EvalFault.OUT_OF_MEMORY, EvalFault.KILLED) and not (batch.alone or (first and _certain(fault))):
            self._frontier.again(item.node, item.index)
            return
        hand.records.append(self._death(item, fault, hand.worker.process.peak_bytes, hand.strays))

    def _death(self, item: Item, fault: EvalFault, peak: int, strays: list[str]) -> EvalError:
        return EvalError(
            path=item.path,
            fault=fault,
            message=self._words(fault, peak, strays),
            peak_bytes=peak if fault in (EvalFault.OUT_OF_MEMORY, EvalFault.KILLED) else None,
            traces=tuple(item.traces),
        )

    def _words(self, fault: EvalFault, peak: int, strays: list[str]) -> str:
        limit, mib = self._limits.memory_bytes // 2**20, peak // 2**20
        said = eval_message.parse("\n".join(strays)).message
        match fault:
            case EvalFault.OUT_OF_MEMORY:
                return said or f"evaluation needs more memory than the limit of {limit} MiB (it had reached {mib} MiB)"
            case EvalFault.TIMEOUT:
                return f"evaluation took longer than {self._limits.attribute_time_s:g} seconds"
            case EvalFault.KILLED:
                return f"the evaluation process was killed twice while evaluating this, at {mib} MiB: {said}".rstrip(
                    ": "
                )
            case _:
                return said or "the evaluation process crashed while evaluating this"

    async def _watch(self) -> None:
        """End processes that use too much memory or time; runs until cancelled."""
        ending: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                await self._govern()
                for hand in self._hands:
                    fault = self._transgression(hand)
                    if fault is not None and hand.worker is not None:
                        hand.verdict = fault
                        ending.add(asyncio.create_task(_end(hand, hand.worker)))
        finally:
            for task in ending:
                task.cancel()

    async def _govern(self) -> None:
        allowed = self._governor.allowed
        busy = [hand for hand in self._hands if hand.batch is not None]
        if self._governed:
            self._governor.saw(time.monotonic(), sum(map(_awake_since, busy)), len(busy))
        if self._governor.allowed > allowed or any(map(_stuck_with, busy)):
            async with self._changed:
                self._changed.notify_all()

    def _transgression(self, hand: Hand) -> EvalFault | None:
        if hand.worker is None or hand.batch is None or hand.verdict is not None:
            return None
        used = hand.worker.process.memory_bytes()
        self.peak_bytes = max(self.peak_bytes, hand.worker.process.peak_bytes)
        if used is not None and used > self._limits.memory_bytes:
            return EvalFault.OUT_OF_MEMORY
        if hand.item is not None and time.monotonic() - hand.began > self._limits.attribute_time_s:
            return EvalFault.TIMEOUT
        return None


def _stuck_with(hand: Hand) -> int:
    """Return how many items wait behind one that takes long."""
    if hand.batch is None or time.monotonic() - hand.began < STUCK_SECONDS:
        return 0
    return len(hand.batch)


def _awake_since(hand: Hand) -> float:
    """Return for how long a worker was awake since this was asked last; always, where that cannot be known."""
    now = hand.worker.process.awake_s() if hand.worker is not None else None
    if now is None:
        return WATCH_SECONDS
    before, hand.awake_s = hand.awake_s, now
    return now - before if 0 < before <= now else 0.0


async def _end(hand: Hand, worker: Worker) -> None:
    """Stop a process at once, but end it only when nothing it made is needed any more."""
    process = worker.process
    process.signal(signal.SIGSTOP)
    while hand.parcels or (hand.batch is not None and not process.errors.quiet()):  # noqa: ASYNC110 - a pipe sets no event
        await asyncio.sleep(WATCH_SECONDS / 5)
    process.signal(signal.SIGKILL)


def _cause(status: int, said: str) -> EvalFault:
    if "stack overflow" in said or status in (-signal.SIGSEGV, -signal.SIGBUS):
        return EvalFault.STACK_OVERFLOW
    if "bad_alloc" in said or "out of memory" in said.lower():
        return EvalFault.OUT_OF_MEMORY
    return EvalFault.KILLED


def _certain(fault: EvalFault) -> bool:
    """Say whether one loss in a fresh process is proof enough."""
    match fault:
        case EvalFault.OUT_OF_MEMORY:
            return True
        case _:
            return False


def _first(failures: BaseExceptionGroup) -> BaseException:
    found: BaseException = failures
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
