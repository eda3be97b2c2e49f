"""Summaries of runs on forges, word by word (see `tests.support.screens` for how to change them)."""

import re
from typing import Any

import msgspec
import pytest

from nixmill.core.change import ChangeState
from nixmill.core.forge_summary import progress, summary
from nixmill.core.outcome import Outcome
from nixmill.core.posting import SUMMARY_MAX
from nixmill.core.run_event import Change, Verdict
from nixmill.core.size_change import Sized, size_changes
from nixmill.core.status import Status
from tests.support.report_world import COMMIT, cause, done, failed_page, line, page, run
from tests.support.screens import check_screen

HOSTILE = "@everyone `` [x](https://evil.example) <img src=x> | ![](y)\u202e\n# no"


def test_a_failed_run(request: pytest.FixtureRequest) -> None:
    check_screen(request, "report-failed", summary(failed_page()).split("\n"))


def test_a_good_run(request: pytest.FixtureRequest) -> None:
    good = done(Verdict.GOOD, "Passed after 4 min 12 s: all 214 attributes are good (12 built, 202 unchanged).")
    check_screen(
        request, "report-good", summary(page(good, lines=(line("a", Status.PASSED, Change.CHANGED),))).split("\n")
    )


def test_a_run_in_which_nothing_differs() -> None:
    text = summary(page(done(Verdict.GOOD, "Passed after 1.0 s: all 214 attributes are good.")))
    assert "Nothing differs from `main`, [run 9](<https://ci.example.org/r/9>)." in text


def test_a_run_that_waits_for_approval(request: pytest.FixtureRequest) -> None:
    held = run(state=ChangeState.HELD, counts={}, started_at=None)
    check_screen(request, "report-held", summary(page(held, base=None)).split("\n"))


def test_our_own_trouble_says_that_it_is_ours() -> None:
    faulty = cause("libroof", 3, outcome=Outcome.INFRASTRUCTURE, tail=(), message="no space left\n")
    text = summary(page(done(Verdict.INFRASTRUCTURE, "Our trouble after 9.0 s: the disk is full."),
                        causes=(faulty,)))  # fmt: skip
    assert (
        "**`libroof` could not be built** ([log](<https://ci.example.org/log/81>)): 3 attributes are not good." in text
    )
    assert "This is our trouble, not the project's.\n\n```\nno space left\n```" in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": ChangeState.WAITING, "counts": {}}, "waiting"),
        ({"state": ChangeState.FETCHING, "counts": {}}, "fetching"),
        ({"state": ChangeState.EVALUATING, "counts": {}}, "evaluating"),
        ({}, "12 of 214 changed, 9 to build, about 6 min"),
        (
            {"counts": {"all": 214, "changed": 12, "failed": 1}},
            "12 of 214 changed, 9 to build, about 6 min; 1 failed so far",
        ),
    ],
    ids=["waiting", "fetching", "evaluating", "building", "failed so far"],
)
def test_how_far_a_run_is(changes: dict[str, Any], expected: str) -> None:
    assert progress(page(run(**changes))) == expected


def test_without_a_base_all_attributes_count() -> None:
    assert progress(page(base=None, to_build=0)) == "214 attributes, nothing to build"


def test_nothing_of_a_stranger_becomes_markup() -> None:
    hostile = line(HOSTILE, error=HOSTILE, how=HOSTILE)
    bad = page(done(Verdict.BUILD_FAILED, HOSTILE), lines=(hostile, line("b", change=Change.SAME)), base_name=HOSTILE,
               causes=(cause(HOSTILE, 2, HOSTILE, tail=(HOSTILE, "```"), message=HOSTILE),), notices=(HOSTILE,),
               elsewhere={HOSTILE: 2}, tier_note=HOSTILE)  # fmt: skip
    text = summary(msgspec.structs.replace(bad, skipped=""))
    outside = "\n".join(_outside(text))
    assert not re.search(r"(?<!\\)\]\(h|https://evil|@e|<img", outside) and "\u202e" not in text
    assert not any(row.startswith("# no") for row in _outside(text))


def _outside(text: str) -> list[str]:
    """Return the lines that stand in no fence, without code spans."""
    found, ticks = [], ""
    for row in text.split("\n"):
        if row.startswith("```") and (not ticks or row == ticks):
            ticks = "" if ticks else row
        elif not ticks:
            parts = row.split("```") if "```" in row else [row]
            found.append("".join(parts[::2]))
    return found


def test_a_summary_is_never_too_large() -> None:
    many = tuple(line(f"a{number}" + "ü" * 200, error="é" * 5000) for number in range(3000))
    causes = tuple(cause("ü" * 250, 9, *("ü" * 300,) * 5, tail=("ü" * 2000,) * 50) for _ in range(20))
    text = summary(failed_page(lines=many, causes=causes))
    assert len(text.encode()) <= SUMMARY_MAX
    assert text.startswith("**Failed after 4 min 12 s")


def test_a_base_of_which_there_is_no_run_is_named(request: pytest.FixtureRequest) -> None:
    fresh = msgspec.structs.replace(failed_page(unchanged=0, failing_since={}), base=None, base_commit=COMMIT)
    check_screen(request, "report-base-without-run", summary(fresh).split("\n"))


def test_without_any_base_nothing_is_said_to_be_against_one() -> None:
    lone = failed_page(base=None, base_commit=COMMIT, unchanged=0, lines=(line("a", change=Change.UNKNOWN),))
    assert "### Attributes" in summary(lone), "the base did not evaluate"


def test_a_conflict_says_nothing_of_an_evaluation() -> None:
    sentence = "Pull request cannot be merged into main: conflicts in README."
    failed = done(Verdict.EVALUATION_FAILED, sentence, counts={})
    text = summary(page(failed, base=None, evaluated=False, unchanged=0, tier_note="Evaluated in a sandbox."))
    assert text == f"**{sentence}** [Run 12](<https://ci.example.org/r/12>)"


def test_a_syntax_error_has_neither_cost_nor_a_way_to_repeat_it() -> None:
    failed = done(Verdict.EVALUATION_FAILED, "Evaluation failed after 1.0 s: syntax error.", counts={"all": 0})
    text = summary(page(failed, unchanged=0, tier_note="Evaluated in a sandbox."))
    assert "Took" not in text and "repro" not in text and "Evaluated in a sandbox." in text


def test_what_fails_does_not_fill_the_table_of_sizes() -> None:
    bad = tuple(line(f"a{number:02}", change=Change.NEW) for number in range(10))
    good = ("checks", "x86_64-linux", "walls")
    after = [Sized(good, "walls-1", 40 << 20), *(Sized(one.path, "a-1") for one in bad)]
    text = summary(failed_page(lines=bad, sizes=size_changes([], after)))
    table = text.split("### Versions and sizes")[1]
    assert "`checks.x86_64-linux.walls`" in table and "a00" not in table and "smaller" not in table
