"""What reports said and was not so: found by reading those of real runs."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from nixmill.core.change import Origin
from nixmill.core.forge_report import desired, title
from nixmill.core.forge_summary import summary
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Verdict
from nixmill.core.size_change import SizeChange
from nixmill.core.status import Status
from nixmill.engine.sizes import Measure
from tests.contract.forge_world import Where
from tests.support.journey_world import template
from tests.support.pull_world import PullWorld, a_pull_world
from tests.support.report_world import PLACE, cause, done, drv, line, page

__all__ = ["template"]


@pytest.fixture
async def world(template: Path) -> AsyncIterator[PullWorld]:
    async with a_pull_world(template) as made:
        await made.watch.look(made.project)
        await made.settled()
        yield made


async def test_the_end_is_told_with_sizes_though_a_report_was_due_before(
    world: PullWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are measured after the verdict: a report that is due meanwhile must not be the last word."""
    grown = SizeChange(path=("good",), name="good", version_before="1", version_after="2")

    async def changes(_: Measure, __: Sequence[object]) -> tuple[SizeChange, ...]:
        await world.process.journey.reporter.report(2, on_its_way=True)
        return (grown,)

    monkeypatch.setattr(Measure, "changes", changes)
    head = world.good()
    await world.pull_event(world.open("mia", head, where=Where.SAME))
    await world.settled()
    assert "Versions and sizes" in world.required(head).summary


async def test_a_base_that_was_only_evaluated_for_comparison_is_nobodys_run(world: PullWorld) -> None:
    """The tip of main that a pull request is the first to see was checked by no run, not by that pull request's."""
    world.made.remote.refs["refs/heads/main"] = world.bad()
    heads = [world.good(), world.good()]
    for head in heads:
        await world.pull_event(world.open("mia", head, where=Where.SAME))
        await world.settled()
    runs = [one for one in await world.changes() if one.origin is Origin.PULL_REQUEST]
    assert len(runs) == 2
    assert "[run " not in world.required(heads[1]).summary


def test_of_what_did_not_evaluate_nobody_knows_what_differs() -> None:
    failed = page(done(Verdict.EVALUATION_FAILED, "Evaluation failed.", counts={}), unchanged=0)
    assert "differs" not in summary(failed)
    assert "Nothing differs" in summary(page(done(Verdict.GOOD, "Passed.", counts={"all": 3})))


def test_an_attribute_of_which_a_dependency_failed_names_it() -> None:
    bad = line("house", Status.DEPENDENCY_FAILED, culprit=drv("libroof-2"), how="")
    told = desired(page(done(Verdict.BUILD_FAILED, "Failed.", counts={"all": 3, "failed": 1}), lines=(bad,)), PLACE)
    assert told[1].title == "Newly failing: libroof-2 failed"


def test_what_no_machine_can_build_says_what_is_missing_and_whose_fault_it_is() -> None:
    stuck = line(
        "vm", Status.TROUBLE, Change.CHANGED, outcome=Outcome.NO_MACHINE, how="needs kvm; no machine offers it"
    )
    by = cause("vm", 1, stuck.name, outcome=Outcome.NO_MACHINE, attempt=None, tail=())
    told = summary(page(done(Verdict.INFRASTRUCTURE, "Our trouble."), lines=(stuck,), causes=(by,)))
    assert "needs kvm" in told
    assert "our trouble, not the project's" in told


def test_what_was_removed_stands_in_the_title() -> None:
    counts = {"all": 3, "removed": 17}
    assert title(page(done(Verdict.GOOD, "Passed.", counts=counts), unchanged=3)) == (
        "All 3 are good, 3 unchanged, 17 removed"
    )
