from itertools import count

import pytest

from nixmill.core.errors import InputError
from nixmill.core.hook import Hook, HookRun, HookState, check_match, chosen, started_by


@pytest.mark.parametrize(
    ("match", "yes", "no"),
    [
        ("*:*:*", ["mill:main:hello", "a:b:c.d.e", "mill:main:a:b"], []),
        ("mill:main:hello", ["mill:main:hello"], ["Mill:main:hello", "mill:main:hello2", "mill:other:hello"]),
        ("mill:*:*", ["mill:main:hello"], ["mill2:main:hello", "other:main:hello"]),
        ("*:main:*", ["mill:main:hello"], ["mill:release:hello"]),
        ("*:*:hello", ["mill:main:hello"], ["mill:main:x.hello"]),
        ("*:*:x86_64-linux.*", ["mill:main:x86_64-linux.hello"], ["mill:main:aarch64-linux.hello"]),
        ("mill:*:tests.[ab]", ["mill:main:tests.a"], ["mill:main:tests.c"]),
        ("mi.l:*:*", [], ["mill:main:hello"]),  # a glob, never a regular expression
    ],
)
def test_what_a_pattern_chooses(match: str, yes: list[str], no: list[str]) -> None:
    hook = Hook(name="h", command=("true",), match=check_match(match))

    def runs(name: str) -> bool:
        return chosen(hook, *name.split(":", 2), good=True)

    assert [name for name in yes if not runs(name)] == []
    assert [name for name in no if runs(name)] == []


@pytest.mark.parametrize("match", ["", "mill", "mill:main", "a:b:c:d", "::", "mill::hello"])
def test_a_pattern_has_three_parts(match: str) -> None:
    with pytest.raises(InputError, match="three parts"):
        check_match(match)


@pytest.mark.parametrize(
    ("on", "good", "bad"),
    [
        (("succeeded",), True, False),
        (("failed",), False, True),
        (("succeeded", "failed"), True, True),
        ((), False, False),
    ],
)
def test_a_hook_follows_success_failure_or_both(on: tuple[str, ...], *, good: bool, bad: bool) -> None:
    hook = Hook(name="h", command=("true",), on=on)
    assert chosen(hook, "mill", "main", "hello", good=True) == good
    assert chosen(hook, "mill", "main", "hello", good=False) == bad


def test_a_finished_run_starts_each_chosen_hook_for_each_attribute() -> None:
    hooks = [
        Hook(name="all", command=("all", "$X")),
        Hook(name="bad", command=("bad",), match="mill:*:b*", on=("failed",)),
        Hook(name="other", command=("other",), match="other:*:*"),
    ]
    numbers = count(1)
    runs = started_by(
        hooks,
        iter([("a", True), ("b", False), ("c", False)]),
        run=7,
        project=1,
        names=("mill", "main"),
        new_id=lambda: f"id{next(numbers)}",
        now=5.0,
    )
    assert [(run.id, run.hook, run.attribute) for run in runs] == [
        ("id1", "all", "a"),
        ("id2", "all", "b"),
        ("id3", "bad", "b"),
        ("id4", "all", "c"),
    ]
    assert runs[0] == HookRun(
        id="id1", hook="all", command=("all", "$X"), run=7, project=1, attribute="a", created_at=5.0
    )
    assert {run.state for run in runs} == {HookState.WAITING}
