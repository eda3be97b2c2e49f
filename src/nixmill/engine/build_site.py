"""Where a run's derivations are planned and built: plan, planner, scheduler and farm, joined.

What it decides: nothing; it keeps the parts in step and tells how the plan grows.
"""

from collections.abc import Collection

import msgspec

from nixmill.core.evaluation import Attribute
from nixmill.core.machine import refusal
from nixmill.core.node import PlanError, Settled, State
from nixmill.core.outcome import Outcome
from nixmill.core.pin import RootPolicy
from nixmill.core.plan import Plan
from nixmill.core.run_event import Planned
from nixmill.core.schedule import Scheduler
from nixmill.engine.duties import Duties
from nixmill.engine.farm import Farm
from nixmill.engine.memory import Memory
from nixmill.engine.planner import Planner
from nixmill.engine.recorder import Recorder
from nixmill.engine.request import RunDoors, RunRequest, Tell
from nixmill.engine.result import Result
from nixmill.engine.settlement import Settlement
from nixmill.engine.works import Works
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class BuildSite:
    """The plan of one run and everything that works on it."""

    def __init__(
        self,
        request: RunRequest,
        doors: RunDoors,
        recorder: Recorder,
        tell: Tell,
        settlement: Settlement,
        works: Works,
        duties: Duties,
    ) -> None:
        """Begin with an empty plan."""
        self._tell = tell
        self._settlement = settlement
        self._attributes: dict[AttrPath, Attribute] = {}
        self._planned: Planned | None = None
        machines = doors.machines
        self.plan = Plan(
            keep_going=not request.fail_fast,
            refuse=lambda system, features: refusal(machines, system, features),
            leave_in_caches=request.pin is not None and request.pin.policy is not RootPolicy.REQUIRE_LOCAL,
        )
        memory = Memory(request, doors)
        self.planner = Planner(self.plan, doors.store, doors.history, memory, may_fetch=doors.may_fetch)
        self.scheduler = Scheduler(self.plan, machines)
        self._farm = Farm(
            self.plan, self.planner, self.scheduler, doors, request, recorder, tell, self._settle, works, memory, duties
        )

    def want(self, attribute: Attribute, valid: Collection[StorePath]) -> None:
        """Plan an attribute, of whose outputs `valid` are in the store."""
        self._attributes[attribute.path] = attribute
        self._farm.knows(attribute)
        self.plan.want(attribute.path, attribute.drv_path, attribute.outputs)
        present = [name for name, path in attribute.outputs.items() if path is not None and path in valid]
        if len(present) == len(attribute.outputs):
            self.plan.tell(attribute.drv_path, valid=present)

    async def grow(self) -> None:
        """Look at what was wanted since the last call, and let the farm start what is ready."""
        await self.planner.expand()
        self._settle()
        self._farm.look()

    def seal(self) -> None:
        """Say that nothing more will be wanted."""
        self.plan.seal()
        self._farm.look()

    def wants(self, drv_path: StorePath) -> bool:
        """Say whether a derivation is in the plan and not done."""
        try:
            node = self.plan.node(drv_path)
        except PlanError:
            return False
        return bool(node.demand) and node.state is not State.DONE and not self.plan.cancelled

    def hold(self) -> bool:
        """Start nothing more; say whether something is going on."""
        return self._farm.hold()

    def cancel(self) -> None:
        """Stop everything; what waits ends as cancelled."""
        self._farm.cancel()

    async def run(self, number: int) -> None:
        """Build for run `number` until everything wanted has ended."""
        await self._farm.run(number)
        self._settle()

    async def tell_plan(self, *, complete: bool, skipped: int, changed: int) -> None:
        """Tell how much there is to do."""
        download, unpacked = await self.planner.download() if complete else (0, 0)
        counts = self.plan.counts()
        planned = Planned(
            complete=complete,
            attributes=len(self._attributes) + skipped,
            changed=changed,
            skipped=skipped,
            present=self._settlement.present,
            to_build=counts.to_build,
            to_fetch=counts.to_fetch,
            fetch_bytes=download,
            unpacked_bytes=unpacked,
            about_s=self.scheduler.remaining_s() if complete else None,
        )
        self._announce(planned)

    def _settle(self) -> None:
        for settled in self.plan.settled():
            self._settlement.settle(self._result(settled))
        to_build = self.plan.counts().to_build
        if self._planned is not None and self._planned.complete and self._planned.to_build != to_build:
            self._announce(msgspec.structs.replace(self._planned, to_build=to_build))

    def _announce(self, planned: Planned) -> None:
        self._planned = planned
        self._tell(planned)

    def _result(self, settled: Settled) -> Result:
        node = settled.node
        good = settled.outcome is Outcome.SUCCEEDED
        return Result(
            attribute=self._attributes[settled.path],
            outcome=settled.outcome,
            how=node.how if good else node.message,
            culprit=node.culprit.drv_path if node.culprit is not None else None,
            culprit_outcome=node.culprit.outcome if node.culprit is not None else None,
            seconds=node.seconds,
            outputs=(node.outputs or {}) if good else {},
        )
