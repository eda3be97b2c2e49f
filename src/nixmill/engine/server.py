"""The server: everything that goes on as long as it runs, started in order and stopped in order.

What a crash left is put right first: attempts that were under way are ended, then the durable engine goes on with every
change that has no verdict.
"""

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import structlog

from nixmill.core.access import Sight
from nixmill.core.change import ChangeState
from nixmill.core.forge import Event
from nixmill.core.history import Keep, Pruned
from nixmill.core.view.pages import Need
from nixmill.doors import DoorError
from nixmill.engine import kept_numbers
from nixmill.engine.cache_keeper import CacheKeeper
from nixmill.engine.cache_restore import closure
from nixmill.engine.courier import CourierDesk
from nixmill.engine.gate import Gate
from nixmill.engine.hook_desk import HookDesk
from nixmill.engine.journey import CHANGE, Journey
from nixmill.engine.keeper import Keeper, root_rules
from nixmill.engine.live import run_topic
from nixmill.engine.office import Asker
from nixmill.engine.office_pulls import PullOffice
from nixmill.engine.owed import rule_of
from nixmill.engine.pin_tidy import tidy_pins
from nixmill.engine.publisher import Publisher
from nixmill.engine.room import Room
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.status_desk import StatusDesk
from nixmill.engine.timers import Timers
from nixmill.engine.vouching import Vouching
from nixmill.engine.watch import Watch
from nixmill.engine.works import Works

UPKEEP_S: Final = 3600.0
DURABLE_S: Final = 86_400.0
"""How long a finished change's steps are kept."""
SWEEP_S: Final = 10.0
"""Between two looks for deleted projects."""

log = structlog.get_logger("nixmill.server")


class Server(PullOffice):
    """Implements `nixmill.engine.office.Office`. Make it, then enter `running`."""

    def __init__(self, doors: ServerDoors, cores: int) -> None:
        """Join the parts; nothing happens before `running`."""
        gate = Gate(doors.clock)
        gate.set_places(doors.machines)
        side = doors.store_side
        self.keeper = Keeper(
            side.roots,
            doors.pins,
            doors.clock,
            root_rules(doors.settings.roots),
            tidy=functools.partial(tidy_pins, doors),
        )
        places = [place for place in (doors.store_dir, doors.settings.state) if doors.settings.min_free_mib]
        self.room = Room(gate, doors.clock, places, doors.disk, free_mib=doors.settings.min_free_mib)
        journey = Journey(doors, Works(gate), cores, self.keeper, self.room)
        watch = Watch(doors, journey.supersede, journey.cancel, journey.reporter.hurry)
        super().__init__(doors, watch, journey, gate)
        self.courier = CourierDesk(doors.outbox, doors.couriers, doors.clock, log, chance=doors.random.random)
        self.hooks = HookDesk(
            doors.outbox,
            doors.hook_runner,
            doors.story,
            doors.settings.hooks,
            doors.clock,
            log,
            at_once=doors.settings.hooks_at_once,
            told=lambda run: doors.live.tell(run_topic(run.run)),
        )
        rules = {cache.name: rule_of(cache, side.trusted_keys) for cache in doors.settings.caches}
        self.vouching = Vouching(
            side.store, side.rebuilder, side.destinations, rules, doors.uploads, doors.clock, log, vouched=self._vouched
        )
        known = functools.partial(closure, side.store)
        self.caches = CacheKeeper(side.own, doors.pins, known, side.locks, doors.clock, log)
        self.publisher = Publisher(
            side.store,
            side.contents,
            side.destinations,
            rules,
            doors.uploads,
            doors.clock,
            log,
            to_rebuild=self.vouching.wake,
            locks=side.locks,
            pushed=self.caches.pushed,
        )
        self.status = StatusDesk(doors, doors.random.random)
        self.reporter = journey.reporter
        self.reporter.told = self.status.wake
        journey.concluded = self._concluded
        self._timers = Timers(doors, watch)
        doors.durable.define(CHANGE, journey.travel)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the context lasts."""
        broken_off = await self._doors.past.interrupted(self._doors.clock.now())
        if broken_off:
            log.info("attempts were broken off when the server ended", attempts=broken_off)
        await self._doors.durable.launch()
        for change in await self._doors.changes.open_changes():
            self.reporter.hurry(change.number)
            await self._watch.supersede_earlier(change)
            if change.state is ChangeState.HELD:
                continue
            # As a rule it is known and goes on; one that a fault of ours ended without a verdict begins anew.
            await self._doors.durable.start(CHANGE, str(change.number), again=True)
        loops: tuple[Callable[[], Awaitable[None]], ...] = (
            self._watch.run,
            self._timers.run,
            self.desk.run,
            self.reconciler.run,
            self.discovery.run,
            self.reporter.run,
            self.status.run,
            self.courier.run,
            self.hooks.run,
            self.keeper.run,
            self.room.run,
            self.publisher.run,
            self.vouching.run,
            self.caches.run,
            self._upkeep,
            *(functools.partial(self._listen, name) for name in self._doors.forges),
        )
        tasks = [asyncio.create_task(self._for_ever(loop)) for loop in loops]
        try:
            yield
        finally:
            self.journey.halt()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._doors.durable.close()

    def _concluded(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._doors.trim)
        self.courier.wake()
        self.hooks.wake()
        self.publisher.wake()

    def _vouched(self) -> None:
        self.publisher.wake()

    @staticmethod
    async def _for_ever(loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop that should never end; a fault in it is logged and it begins again."""
        while True:
            try:
                await loop()
            except Exception:
                log.exception("a part of the server failed and is started again", part=repr(loop))
                await asyncio.sleep(1.0)

    async def _listen(self, name: str) -> None:
        """Hear a forge's own stream of events, where it has one."""
        hints = self._doors.forges[name].events()
        if hints is None:
            await asyncio.Event().wait()
            return
        async for hint in hints:
            await self.took(name, Event(delivery=f"stream {uuid.uuid4()}", hints=(hint,)))

    async def _upkeep(self) -> None:
        due = 0.0
        while True:
            try:
                while await self._doors.sweep():
                    pass
                if self._doors.clock.monotonic() >= due:
                    due = self._doors.clock.monotonic() + UPKEEP_S
                    await self._hourly()
            except DoorError as error:
                log.warning("upkeep has to wait", fault=str(error))
            await self._doors.clock.sleep(SWEEP_S)

    async def _hourly(self) -> None:
        await self.sample_disk()
        await self._prune(dry_run=False)
        await self._doors.tidy()
        await self._doors.durable.forget(self._doors.clock.now() - DURABLE_S)
        await self._doors.remote.keep_only([project.id for project in await self._doors.projects.projects()])

    async def prune(self, asker: Asker, *, dry_run: bool) -> Pruned:
        """See `Office`."""
        pruned = await self._prune(dry_run=dry_run)
        if not dry_run:
            await self.note(asker, "change the server", "retention", None, f"{len(pruned.runs)} runs were forgotten")
        return pruned

    async def _prune(self, *, dry_run: bool) -> Pruned:
        keep = self._doors.settings.retention
        if not keep.run_days:
            return Pruned(runs=(), attempts=(), evaluations=0)
        rule = Keep(runs=keep.runs, days=keep.run_days)
        doomed = await self._doors.archive.prune(rule, dry_run=True)
        if dry_run or not doomed.runs:
            return doomed
        await self._doors.logs.delete(doomed.attempts)
        return await self._doors.archive.prune(rule)

    async def numbers(self, sight: Sight) -> dict[str, float]:
        """See `Office`."""
        found = {"remotes.out_of_reach": float(len(await self._doors.past.out_of_reach(sight)))}
        if sight.everything:
            counts = [flow.site.plan.counts() for flow in self.journey.flows.values()]
            found["derivations.waiting"] = float(sum(each.waiting + each.ready for each in counts))
            found["places.wanted"] = float(len(self._gate.waiting()))
            for outcome in ("delivered", "retried", "dead"):
                found[f"messages.{outcome}"] = float(getattr(self.courier, outcome))
            for outcome in ("posted", "failed"):
                found[f"statuses.{outcome}"] = float(getattr(self.status, outcome))
            for outcome in ("ended", "lost"):
                found[f"hooks.{outcome}"] = float(getattr(self.hooks, outcome))
            found |= kept_numbers.numbers(self.keeper.last, await self.publisher.numbers(), self.caches.numbers)
        return found

    async def needs(self, sight: Sight) -> Sequence[Need]:
        """See `Office`."""
        found = await super().needs(sight)
        kept = kept_numbers.needs(self.keeper.last, await self.publisher.numbers()) if sight.everything else []
        return [*found, *kept]

    async def replay(self, asker: Asker, parcel: int) -> bool:
        """See `Office`."""
        again = await self._doors.outbox.replay(parcel)
        if again:
            await self.note(asker, "change the server", f"message {parcel}", None, "sent again")
            self.courier.wake()
        return again
