"""Why an attribute is as it is, in sentences: what became of it, why it waits, and what changed since the base."""

from typing import Final

from nixmill.core.access import EVERYTHING
from nixmill.core.run_event import Change
from nixmill.core.status import Status
from nixmill.core.view.parts import AttributeLine, RunLine
from nixmill.core.why_changed import Explainer, Root
from nixmill.doors import DoorError
from nixmill.engine.explain import explain
from nixmill.engine.office_state import StateOffice
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import derivation_name

WAY_MAX: Final = 6


class WhyOffice(StateOffice):
    """See `nixmill.engine.office.Office`."""

    async def why(self, number: int, path: AttrPath) -> list[str]:
        """See `Office`."""
        found = await self._doors.run_pages.attribute_of(EVERYTHING, number, path)
        if found is None:
            return []
        run, line = found
        return [*_result(line), *self._waits(run, line), *await self._changed(run, line)]

    def _waits(self, run: RunLine, line: AttributeLine) -> list[str]:
        """Say why it is not done; the run's own schedule knows."""
        flow = self.journey.flows.get(run.number)
        if line.outcome is not None or line.drv_path is None or flow is None:
            return []
        for drv_path, name, reason, _ in self.flow_lines(flow):
            if drv_path == line.drv_path:
                return [f"It {reason}."] if name == derivation_name(line.drv_path) else [f"{name} {reason}."]
        return [f"Its run {self._why_going(run.number)}."]

    async def _changed(self, run: RunLine, line: AttributeLine) -> list[str]:
        """Say what differs from the base, down to the sources, where both derivations are still in the store."""
        if line.drv_path is None or line.change is Change.UNKNOWN:
            return ["There was no base to compare with."] if line.change is Change.UNKNOWN else []
        if line.change is Change.NEW:
            return ["It is new: the base does not have it."]
        before = await self._doors.past.before(run.number, line.path)
        if before is None or before == line.drv_path:
            return ["It is the same derivation as on the base."] if before else []
        try:
            async with self._doors.open_run(lambda _: None) as doors:
                explanation = await explain(doors.store, Explainer(), before, line.drv_path)
        except DoorError as error:
            return [f"What changed cannot be told now: {error}"]
        sentences = [_root(root) for root in explanation.roots]
        return sentences if explanation.complete else [*sentences, "More differs than is told here."]


def _result(line: AttributeLine) -> list[str]:
    if line.error:
        return [f"It did not evaluate: {line.how}"]
    if line.outcome is None:
        return ["It is not done yet."]
    if line.culprit is not None and line.culprit != line.drv_path:
        return [f"{_said(line.status)}: {derivation_name(line.culprit)} is at fault. {line.how}".strip()]
    return [f"{_said(line.status)}: {line.how}."]


def _said(status: Status) -> str:
    match status:
        case Status.DEPENDENCY_FAILED:
            return "A dependency failed"
        case Status.TROUBLE:
            return "Our trouble"
        case Status.CACHED | Status.CANCELLED | Status.RUNNING:
            return f"It is {status}"
        case Status.WAITING:
            return "It waits"
        case Status.PASSED | Status.FAILED:
            return f"It {status}"


def _root(root: Root) -> str:
    way = root.way if len(root.way) <= WAY_MAX else (*root.way[:2], "…", *root.way[-3:])
    through = f" (by way of {' → '.join(way)})" if len(way) > 1 else ""
    before, after = root.difference.before, root.difference.after
    moved = before and after and before[:1] == after[:1] == "/" and before.partition("-")[2] == after.partition("-")[2]
    change = f": {before!r} became {after!r}" if (before or after) and not moved else ""
    return f"{root.difference.sentence[:1].upper()}{root.difference.sentence[1:]}{through}{change}."
