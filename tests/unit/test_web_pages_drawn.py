"""Every page is drawn in every state, with everything there and with everything missing."""

from types import SimpleNamespace
from typing import Final

import msgspec
import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.access import Sight, Viewer, allowed
from nixmill.core.change import ChangeState
from nixmill.core.run_event import Change, Verdict
from nixmill.core.size_change import SizeChange
from nixmill.core.status import Status
from nixmill.core.view.pages import ChecklistItem, ComparedLine, EvaluationPage, HomePage
from nixmill.core.view.parts import Filter, Paging, RefLine, RunLine
from nixmill.web import writing
from nixmill.web.pages_project import attribute_standing, home_sentence, home_status
from nixmill.web.retry_cost import RetryCost
from tests.fakes.pages import NOW, FakeProjectPages, FakeRunPages, line, pkg

ENGINE: Final = writing.environment()
STRANGER: Final = Viewer()
ADMIN: Final = Viewer(user=1, name="ada", admin=True)


def draw(
    template: str, page: msgspec.Struct, *, viewer: Viewer = ADMIN, status: Status | None = None, **more: object
) -> str:
    ask = SimpleNamespace(
        request=SimpleNamespace(url=SimpleNamespace(path="/x", query="")),
        viewer=viewer,
        csrf="token",
        to_approve=0,
        path="/x",
        may=lambda action, project=None, visibility=None: allowed(viewer, action, project, visibility),
    )
    site = SimpleNamespace(clock=SimpleNamespace(now=lambda: NOW), settings=ServerSettings())
    return ENGINE.get_template(template).render(
        page=page, ask=ask, title="T", status=status, live=False, site=site, **more
    )


async def evaluation(number: int = 412) -> EvaluationPage:
    page = await FakeRunPages().evaluation(Sight(), number, None, "", 1, 200)
    assert page is not None
    return page


def drawn(page: EvaluationPage, viewer: Viewer = ADMIN, retry: RetryCost | None = None) -> str:
    return draw("evaluation.html", page, viewer=viewer, status=page.run.status, retry=retry, query={}, pull="")


def bare(run_: RunLine) -> RunLine:
    """Return a run of which nothing is known yet."""
    return msgspec.structs.replace(
        run_, commit="", subject="", author="", sentence="", counts={}, jobset="", started_at=None, ended_at=None
    )


@pytest.mark.parametrize("state", ChangeState)
@pytest.mark.parametrize("viewer", [STRANGER, ADMIN])
async def test_an_evaluation_is_drawn_in_every_state(state: ChangeState, viewer: Viewer) -> None:
    page = await evaluation(413)
    page = msgspec.structs.replace(page, run=msgspec.structs.replace(page.run, state=state, verdict=None))
    assert state.value.capitalize() in drawn(page, viewer) or state is ChangeState.DONE
    empty = msgspec.structs.replace(
        page, run=bare(page.run), base=None, base_commit="", base_reason="", evaluation_s=None, counts={},
        rows=(), causes=(), causes_total=0, attempts_running=(), newer=None, notices=(), filter=Filter.ALL,
        paging=Paging(page=1, pages=1, size=200, total=0),
    )  # fmt: skip
    text = drawn(empty, viewer)
    assert ("as soon as the first has been evaluated" in text) is (state is not ChangeState.DONE)


@pytest.mark.parametrize("verdict", Verdict)
async def test_an_evaluation_is_drawn_with_every_verdict(verdict: Verdict) -> None:
    page = await evaluation()
    ended = msgspec.structs.replace(
        page.run, verdict=verdict, sentence="", retry_of=3, superseded_by=9, cancel_asked=True
    )
    text = drawn(
        msgspec.structs.replace(page, run=ended, retries=(500, 501)), retry=RetryCost(failed="", anyway="", evaluate="")
    )
    assert f"{verdict.value.capitalize()}." in text
    assert "Superseded by" in text and "run 501" in text and "Retry failed" not in text


async def test_every_row_is_drawn() -> None:
    page = await evaluation()
    every = [(status, change) for status in Status for change in Change]
    rows = [line(pkg("a"), *state) for state in every]
    rows += [line((), *state, error="one\ntwo", drv_path=None, outcome=None) for state in every]
    text = drawn(msgspec.structs.replace(page, rows=tuple(rows)))
    assert text.count("<tr data-row") == len(rows)


async def test_only_those_who_may_see_buttons() -> None:
    cost = RetryCost(failed="tries 1 failed build again", anyway="a", evaluate="e")
    page = await evaluation()
    assert 'value="failed"' in drawn(page, ADMIN, cost)
    assert '<form method="post"' not in drawn(page, STRANGER)


async def test_home_is_drawn_empty() -> None:
    page = HomePage(checklist=(), needs_you=(), broken=(), running=(), projects=())
    assert "There is no project here that you may see" in draw(
        "home.html", page, viewer=STRANGER, said="No project yet."
    )


async def test_a_new_installation_is_only_a_checklist() -> None:
    steps = (ChecklistItem(done=False, title="Add a project", hint="Name one.", link="/p/new"),)
    page = HomePage(checklist=steps, needs_you=(), broken=(), running=(), projects=())
    text = draw("home.html", page, said=home_sentence(page), status=home_status(page))
    assert "Welcome. 1 step of setting up is left." in text
    assert 'id="projects"' not in text and 'href="/p/new"' in text


async def test_a_project_and_a_branch_are_drawn_before_their_first_run() -> None:
    project = await FakeProjectPages().project(Sight(), "mill")
    branch = await FakeProjectPages().branch(Sight(), "mill", "main", None, 50)
    assert project is not None and branch is not None
    new = msgspec.structs.replace(
        project,
        polled=None,
        refs=(),
        runs=(),
        jobsets=(),
        project=msgspec.structs.replace(project.project, enabled=False),
    )
    assert "Nothing has run yet" in draw("project.html", new)
    nothing = RefLine(ref="refs/heads/main", jobset="", latest=None, last_good=None, failing_since=None, gone_at=None)
    fresh = msgspec.structs.replace(branch, line=nothing, runs=(), durations=(), sizes=(), older=None)
    assert "<svg viewBox" not in draw("branch.html", fresh, said="Nothing has run on this branch yet.", usual=None)


async def test_an_attribute_without_a_past_is_drawn() -> None:
    page = await FakeProjectPages().attribute(Sight(), "mill", "main", pkg("x"), None)
    assert page is not None
    page = msgspec.structs.replace(page, runs=(), durations=(), sizes=(), description="", maintainers=())
    assert "No run of this branch had it" in draw("attribute.html", page, said=attribute_standing(page))


async def test_a_comparison_is_drawn_with_either_side_missing() -> None:
    page = await FakeRunPages().compare(Sight(), 410, 412, 1, 200)
    assert page is not None
    only = line(pkg("x"))
    rows = (
        ComparedLine(name="x", path=pkg("x"), change="new", before=None, after=only),
        ComparedLine(name="x", path=pkg("x"), change="removed", before=only, after=None),
    )
    assert draw("compare.html", msgspec.structs.replace(page, rows=rows), said="x", query={}).count("not there") == 2
    same = msgspec.structs.replace(page, rows=())
    assert "Every attribute is the same" in draw("compare.html", same, said="x", query={})


async def test_more_rows_than_a_page_may_hold_come_in_long_pages() -> None:
    page = await evaluation()
    text = drawn(msgspec.structs.replace(page, paging=Paging(page=1, pages=500, size=200, total=100_000)))
    assert "5,000 a page" in text and "page=500" in text
    text = drawn(msgspec.structs.replace(page, paging=Paging(page=1, pages=20, size=5000, total=100_000)))
    assert "a page" not in text.split('aria-label="Pages"')[1] and "page=20" in text
    text = drawn(msgspec.structs.replace(page, paging=Paging(page=1, pages=1, size=5000, total=4000)))
    assert "all 4,000 shown" in text


async def test_versions_and_sizes_stand_in_a_table() -> None:
    sizes = (
        SizeChange(path=pkg("libfoo"), name="libfoo", version_before="2.2", version_after="2.3",
                   closure_before=10_000_000, closure_after=30_000_000),
        SizeChange(path=pkg("new<b>"), name="new", version_before=None, version_after="1", closure_after=5),
        SizeChange(path=pkg("old"), name="old", version_before="", version_after=None, closure_before=5),
    )  # fmt: skip
    text = drawn(msgspec.structs.replace(await evaluation(), sizes=sizes))
    assert "Versions and sizes" in text
    assert "2.2 → 2.3" in text and "new: 1" in text and ">removed" in text.replace("\n", ">")
    assert 'class="removed">+' in text
    assert "new<b>" not in text
    assert "Versions and sizes" not in drawn(await evaluation())


async def test_a_merge_conflict_reads_as_the_authors_to_mend() -> None:
    page = await evaluation()
    said = "Pull request cannot be merged into main (b0b0b0b0b0b0): conflicts in flake.nix and 2 more."
    run_ = msgspec.structs.replace(
        bare(page.run), verdict=Verdict.EVALUATION_FAILED, status=Status.FAILED, sentence=said, pull_request=7,
        base_ref="refs/heads/main", ref="refs/pull/7/head",
    )  # fmt: skip
    empty = msgspec.structs.replace(
        page, run=run_, base=None, base_commit="", base_reason="", counts={}, rows=(), causes=(), causes_total=0,
        filter=Filter.ALL, notices=("Merge or rebase onto main and push again.",),
        paging=Paging(page=1, pages=1, size=200, total=0),
    )  # fmt: skip
    text = drawn(empty)
    assert "conflicts in flake.nix and 2 more" in text
    assert "Merge or rebase onto main and push again." in text
    assert 'href="/p/mill/pull/7"' in text
    assert "nixmill.toml" not in text
