"""The plain renderer: blocks in one piece, failures unfolded, no silence, nothing that a CI takes for a command."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.cli.render.ci import Ci, detect, fold, neutral
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.plain import HEARTBEAT_S, STALL_S, UNFOLDED_LINES, PlainRenderer
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Noticed, RunEvent, Work, WorkPhase, WorkWaits
from tests.support.run_events import (
    ended,
    erred,
    found,
    output,
    planned,
    settled,
    started,
    work_ended,
    work_started,
)
from tests.support.sample_run import play, sample_run

COMMANDS = re.compile(r"\s*::|.*##\w*\[|\s*(?:---|\+\+\+|~~~|\^\^\^) ")
EVIL = "::set-output name=a::b"


class Pipe:
    """Takes text as a pipe does."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def plain(pipe: Pipe, ci: Ci = Ci.NONE, *, colour: bool = False) -> PlainRenderer:
    return PlainRenderer(pipe, Paint(colour=colour, unicode=True), 0.0, ci)


def said_by(events: list[tuple[float, RunEvent]], ci: Ci = Ci.NONE) -> list[str]:
    pipe = Pipe()
    renderer = plain(pipe, ci)
    play(events, renderer)
    renderer.close()
    return pipe.lines


def failing(attempt: int, lines: int) -> list[tuple[float, RunEvent]]:
    log = [f"line {n}" for n in range(lines)]
    return [
        (0, started()),
        (0, work_started(attempt, "libfoo-1.2")),
        (0, output(attempt, *log)),
        (1, work_ended(attempt, "libfoo-1.2", Outcome.BUILD_FAILED, exit_status=1, tail=tuple(log[-10:]))),
    ]


def test_logs_of_builds_that_run_together_are_blocks_of_their_own() -> None:
    events: list[tuple[float, RunEvent]] = [(0, started()), (0, work_started(1, "a")), (0, work_started(2, "b"))]
    for n in range(3):
        events += [(0.1, output(1, f"a says {n}")), (0.1, output(2, f"b says {n}"))]
    failed = work_ended(1, "a", Outcome.BUILD_FAILED, exit_status=1, tail=("a says 2",))
    events += [(0, work_ended(2, "b")), (0, failed)]
    said = [line for line in said_by(events, Ci.GITHUB) if "says" in line]
    assert said == [f"  │ b says {n}" for n in range(3)] + [f"  │ a says {n}" for n in range(3)]


def test_a_good_build_is_folded_to_its_title_where_folding_is_known() -> None:
    events: list[tuple[float, RunEvent]] = [
        (0, work_started(1, "a-1")),
        (0, output(1, "hi")),
        (0, work_ended(1, "a-1")),
    ]
    assert said_by(events, Ci.GITHUB) == ["::group::✔ a-1  built in 12 s", "  │ hi", "::endgroup::"]
    assert said_by(events) == ["✔ a-1  built in 12 s"]
    assert said_by(events, Ci.BUILDKITE) == ["✔ a-1  built in 12 s"]


def test_fetches_are_only_counted() -> None:
    begun = work_started(1, "a-1", work=Work.FETCH)
    assert said_by([(0, begun), (0, work_ended(1, "a-1", work=Work.FETCH))]) == []


def test_a_failure_is_unfolded_and_comes_again_in_the_summary_last() -> None:
    said = said_by([*failing(7, 30), (0, ended())])
    assert sum("line 29" in line for line in said) == 2
    assert sum(line.strip("│ ") == "line 3" for line in said) == 1
    assert said[-2:] == ["  log   nixmill log 7", "  shell nixmill shell 7"]
    assert "::group::" not in "".join(said_by(failing(7, 30), Ci.GITHUB))


def test_the_head_of_a_long_failed_log_is_folded_or_left_to_the_log_file() -> None:
    count = UNFOLDED_LINES + 50
    folded = said_by(failing(7, count), Ci.GITHUB)
    assert folded.index("::group::│ 50 earlier lines: nixmill log 7") < folded.index("  │ line 49")
    assert folded.index("::endgroup::") < folded.index("  │ line 50")
    unfolded = said_by(failing(7, count))
    assert "│ 50 earlier lines: nixmill log 7" in unfolded
    assert "  │ line 49" not in unfolded


def test_lines_that_did_not_fit_into_memory_are_counted() -> None:
    assert "│ 4,800 earlier lines: nixmill log 7" in said_by(failing(7, 5000))


def test_silence_is_broken_by_a_heartbeat_that_names_the_longest_first() -> None:
    pipe = Pipe()
    renderer = plain(pipe)
    waits = WorkWaits(reasons=(("x", "no slot"),), waiting=22)
    now = play([(0, started()), (0, work_started(1, "old")), (5, work_started(2, "young")), (0, waits)], renderer)
    before = pipe.text
    renderer.handle(WorkPhase(attempt=1, phase="checkPhase"))
    renderer.tick(HEARTBEAT_S - 1)
    assert pipe.text == before
    renderer.tick(now + HEARTBEAT_S)
    assert pipe.lines[-1] == "▶ after 35 s: old 35 s in checkPhase, young 30 s; 22 waiting"
    before = pipe.text
    renderer.tick(now + HEARTBEAT_S + 20)
    assert pipe.text == before
    renderer.tick(now + 2 * HEARTBEAT_S + 1)
    assert pipe.text != before


def test_a_heartbeat_while_nothing_is_built_says_how_far_evaluation_is() -> None:
    pipe = Pipe()
    renderer = plain(pipe)
    play([(0, started()), (0, found("checks.a"))], renderer)
    renderer.tick(HEARTBEAT_S + 1)
    assert pipe.lines[-1] == "▶ after 31 s: evaluating, 1 attribute so far"


def test_a_build_that_says_nothing_for_long_is_shown_line_by_line_from_then_on_once() -> None:
    pipe = Pipe()
    renderer = plain(pipe)
    play([(0, started()), (0, work_started(1, "stuck")), (0, output(1, "last words"))], renderer)
    for now in range(1, int(STALL_S) * 2, 10):
        renderer.tick(float(now))
    assert pipe.text.count("has printed nothing for") == 1
    assert "stuck> last words" in pipe.lines
    renderer.handle(output(1, "it moves", EVIL))
    renderer.tick(STALL_S * 2)
    assert pipe.lines[-2:] == ["stuck> it moves", f"stuck> {EVIL}"]


def test_suspended_it_keeps_lines_until_it_may_write_again() -> None:
    pipe = Pipe()
    renderer = plain(pipe)
    renderer.suspend()
    now = play([(0, Noticed(text="kept"))], renderer)
    renderer.tick(now + 100)
    assert pipe.text == ""
    renderer.resume()
    assert pipe.text == "note kept\n"


def test_nothing_but_text_and_colours_is_written() -> None:
    pipe = Pipe()
    renderer = plain(pipe, colour=True)
    play(sample_run(), renderer)
    renderer.close()
    assert not re.sub(r"\x1b\[[0-9;]*m", "", pipe.text).count("\x1b")
    assert "\r" not in pipe.text


HOSTILE = st.sampled_from(
    [EVIL, "##[error]x", "##vso[task.setvariable]x", "--- group", "+++ x", "  ::warning::x", "\r::x", ""]
)


@given(HOSTILE, st.sampled_from(list(Ci)))
def test_no_foreign_text_becomes_a_command(evil: str, ci: Ci) -> None:
    failed = work_ended(1, evil or "x", Outcome.BUILD_FAILED, message=f"a\n{evil}", tail=(evil, evil))
    events: list[RunEvent] = [
        started(project=evil, targets=(evil,), base_reason=evil),
        Noticed(text=f"{evil}\n{evil}"),
        found((evil, "x"), traces=(f"trace: {evil}\n{evil}",)),
        erred("checks.bad", f"{evil}\n{evil}", position=evil),
        planned(),
        work_started(1, evil or "x", machine=evil),
        output(1, evil, f" {evil}"),
        failed,
        work_started(2, evil or "x"),
        output(2, evil),
        work_ended(2, evil or "x"),
        settled((evil, "x"), evil, Outcome.BUILD_FAILED, how=f"{evil}\n{evil}"),
        ended(sentence=f"{evil}\n{evil}"),
    ]
    ours = ("::group::", "::endgroup::", "+++ ✖")
    lines = said_by([(0, event) for event in events], ci)
    commands = [line for line in lines if COMMANDS.match(line) and not line.startswith(ours)]
    assert commands == []


@pytest.mark.parametrize("line", [EVIL, f"  {EVIL}", "##[group]x", "a ##vso[x]", "--- x", "^^^ +++"])
def test_what_looks_like_a_command_is_neutralised(line: str) -> None:
    assert not COMMANDS.match(neutral(line))


@pytest.mark.parametrize("line", ["plain", "## heading", "a::b", "  │ ::x"])
def test_other_lines_are_left_alone(line: str) -> None:
    assert neutral(line) == line


@pytest.mark.parametrize(
    ("environ", "ci"),
    [
        ({}, Ci.NONE),
        ({"CI": "true"}, Ci.NONE),
        ({"GITHUB_ACTIONS": "true"}, Ci.GITHUB),
        ({"GITLAB_CI": "true"}, Ci.GITLAB),
        ({"BUILDKITE": "true"}, Ci.BUILDKITE),
        ({"BUILDKITE": "false"}, Ci.NONE),
    ],
)
def test_only_systems_that_are_known_to_fold_get_markers(environ: dict[str, str], ci: Ci) -> None:
    assert detect(environ) is ci


def test_titles_of_folds_are_encoded_as_the_system_wants_them() -> None:
    assert fold(Ci.GITHUB, "\x1b[1m100%\x1b[0m", [], "k", 0)[0] == "::group::100%25"
    assert fold(Ci.GITLAB, "t", ["x"], "a b", 7.5) == [
        "\x1b[0Ksection_start:7:a_b[collapsed=true]\r\x1b[0Kt",
        "x",
        "\x1b[0Ksection_end:7:a_b\r\x1b[0K",
    ]
