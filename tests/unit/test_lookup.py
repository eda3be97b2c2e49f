import shlex

import pytest

from nixmill.core.history import AttemptRow, AttributeRow, RunRow
from nixmill.core.lookup import Ambiguous, RunRecord, find_attempt, find_attribute
from nixmill.core.outcome import Outcome
from nixmill.core.repro import repro_lines
from nixmill.core.run_event import Change, Work
from nixmill.nix.store_path import StorePath
from tests.fakes.store import make_path


def attempt(number: int, drv_path: StorePath, outcome: Outcome | None = Outcome.SUCCEEDED) -> AttemptRow:
    return AttemptRow(
        number=number,
        run=7,
        drv_path=drv_path,
        name="x",
        system="x86_64-linux",
        work=Work.BUILD,
        machine="local",
        started_at=0.0,
        outcome=outcome,
    )


def attribute(path: tuple[str, ...], drv_path: StorePath, culprit: StorePath | None = None) -> AttributeRow:
    outcome = Outcome.DEPENDENCY_FAILED if culprit else Outcome.SUCCEEDED
    return AttributeRow(
        run=7, evaluation="e", path=path, drv_path=drv_path, outcome=outcome, change=Change.NEW, how="", culprit=culprit
    )


LIB, APP, OTHER = (make_path(f"{name}.drv") for name in ("lib-1.0", "app-2.0", "other-3.0"))
RUN = RunRecord(
    row=RunRow(
        number=7,
        project="p",
        checkout="/home/me/p",
        commit="c0ffee",
        tree_hash="t",
        targets=(".#checks", "r.nix"),
        process=1,
        started_at=0.0,
    ),
    attempts=(attempt(1, LIB, Outcome.INFRASTRUCTURE), attempt(2, LIB, Outcome.BUILD_FAILED), attempt(3, OTHER)),
    attributes=(attribute(("checks", "app"), APP, culprit=LIB), attribute(("checks", "other"), OTHER)),
)


@pytest.mark.parametrize(
    ("word", "number"),
    [
        (None, 2),
        ("3", 3),
        ("app", 2),
        ("checks.app", 2),
        ("oth", 3),
        ("lib-1.0", 2),
        ("lib", 2),
        (LIB, 2),
        (LIB.removesuffix(".drv"), 2),
    ],
)
def test_a_word_means_the_last_attempt_at_what_is_at_fault(word: str | None, number: int) -> None:
    found = find_attempt(word, RUN)
    assert isinstance(found, AttemptRow)
    assert found.number == number


def test_what_means_nothing_here_is_none_and_what_means_several_says_which() -> None:
    assert find_attempt("nothing-like-it", RUN) is None
    assert find_attempt("9", RUN) is None
    assert find_attempt(None, RunRecord(row=RUN.row, attempts=(), attributes=())) is None
    assert find_attribute("checks", RUN) == Ambiguous(names=("checks.app", "checks.other"))
    assert isinstance(find_attempt("-", RUN), Ambiguous)


def test_repro_names_the_commit_the_attribute_and_the_culprit() -> None:
    lines = repro_lines(RUN.row, RUN.attributes[0])
    assert "nixmill run -r c0ffee '.#checks.app'" in lines
    assert f"nix-store --realise {APP}" in lines
    assert lines[-1] == f"nix-store --realise {LIB}"
    assert "dependency failed in run 7" in lines[0]


def test_repro_quotes_hostile_names_for_the_shell() -> None:
    hostile = attribute(("checks", "a'; rm -rf /; '"), APP)
    commands = [line for line in repro_lines(RUN.row, hostile) if not line.startswith("#")]
    assert all("rm" not in shlex.split(command) for command in commands)
    assert any("a'; rm -rf /; '" in word for command in commands for word in shlex.split(command))
