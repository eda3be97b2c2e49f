"""The live renderer on an emulated terminal: history stays, one region at the bottom, nothing left behind."""

import itertools

import pytest

from nixmill.cli.render.live import FRAME_S, LiveRenderer
from nixmill.cli.render.paint import Paint
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Noticed, RunEvent
from nixmill.core.terminal_text import SGR, width
from tests.support.run_events import ended, erred, found, output, planned, settled, started, work_ended, work_started
from tests.support.sample_run import evaluation, play, sample_run
from tests.support.screens import Emulator

SIZES = [(120, 40), (80, 24), (60, 15)]
BAR = "∑"


def live(emulator: Emulator, *, colour: bool = True, unicode: bool = True, reflows: bool = False) -> LiveRenderer:
    return LiveRenderer(emulator, Paint(colour=colour, unicode=unicode), emulator.size, 0.0, reflows=reflows)


def busy(builds: int = 30) -> list[tuple[float, RunEvent]]:
    begun = [(0.0, work_started(n, f"pkg-{n}-1.0", about_s=60.0)) for n in range(builds)]
    return [(0.0, started()), (0.0, planned(to_build=100)), *begun]


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_at_every_moment_one_region_stands_at_the_bottom_and_takes_a_third_at_most(columns: int, rows: int) -> None:
    emulator = Emulator(columns, rows)
    renderer = live(emulator)
    now = 0.0
    for wait, event in sample_run()[:-1]:
        now = play([(wait, event)], renderer, now)
        shown = emulator.shown
        assert [BAR in line for line in shown].count(True) == 1
        assert BAR in shown[-1]
        assert len(renderer._drawn) <= rows // 3


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_many_builds_take_a_third_of_the_screen_at_most(columns: int, rows: int) -> None:
    emulator = Emulator(columns, rows)
    play([*busy(), (2.0, Noticed(text="still there"))], live(emulator))
    first = next(row for row, line in enumerate(emulator.rows) if "pkg-0" in line)
    assert len(emulator.shown) - first <= rows // 3
    assert "more running" in "".join(emulator.shown)


def test_the_region_grows_from_the_prompt_and_leaves_what_stood_there() -> None:
    emulator = Emulator(80, 24)
    emulator.write("$ nixmill run\r\n")
    play([(0, started())], live(emulator))
    assert emulator.shown[0] == "$ nixmill run"
    assert emulator.shown[1].startswith("nixmill run 12")
    assert emulator.shown[3:] == ["", emulator.shown[-1]]
    assert emulator.shown[-1].startswith(BAR)


def test_verdicts_are_said_once_and_in_order() -> None:
    emulator = Emulator(100, 20)
    renderer = live(emulator)
    names = [f"attr-{n:03}" for n in range(60)]
    play([(0, started()), *((0.05, settled(f"checks.{name}", seconds=n)) for n, name in enumerate(names))], renderer)
    renderer.close()
    said = [line.split()[1].removeprefix("checks.") for line in emulator.everything if line.startswith("✔")]
    assert said == names


def test_attributes_of_one_derivation_share_its_failure_block() -> None:
    emulator = Emulator(100, 40)
    renderer = live(emulator)
    names = ("checks.a", "packages.a")
    failed = work_ended(1, "a-1.0", Outcome.BUILD_FAILED, exit_status=1, message="builder failed\nlong story")
    settling = [(0.0, settled(name, outcome=Outcome.BUILD_FAILED, how="builder failed\nlong story")) for name in names]
    finding = [(0.0, found(name)) for name in names]
    play([(0, started()), *finding, (0, work_started(1, "a-1.0")), (0, failed), *settling], renderer)
    text = "\n".join(emulator.shown)
    assert text.count("✖ checks.a failed with exit status 1") == 1
    assert "✖ packages.a  failed: it is the same derivation as checks.a" in text


def test_after_the_end_only_permanent_lines_are_left_and_the_cursor_is_back() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator)
    play(sample_run()[:-1], renderer)
    assert emulator.cursor_hidden
    play([sample_run()[-1]], renderer, 100.0)
    renderer.close()
    assert not emulator.cursor_hidden
    assert not any(BAR in line for line in emulator.everything)
    assert emulator.screen.cursor.x == 0
    assert emulator.rows[emulator.screen.cursor.y] == ""


def test_closing_in_the_middle_leaves_no_region_and_shows_the_cursor() -> None:
    emulator = Emulator(80, 24)
    renderer = live(emulator)
    play(busy(), renderer)
    renderer.close()
    assert emulator.everything[-1].startswith("100 to build")
    assert not emulator.cursor_hidden
    written = len(emulator.writes)
    renderer.close()
    renderer.tick(1000.0)
    assert len(emulator.writes) == written


def test_closing_before_anything_happened_writes_nothing() -> None:
    emulator = Emulator()
    live(emulator).close()
    assert emulator.writes == []


@pytest.mark.parametrize("widths", [(120, 60, 120), (60, 120, 60), (120, 100, 80, 60, 45)])
def test_it_survives_being_resized(widths: tuple[int, ...]) -> None:
    emulator = Emulator(widths[0], 30)
    renderer = live(emulator)
    now = play(busy(), renderer)
    for columns, rows in zip(widths, itertools.cycle((30, 20, 40)), strict=False):
        emulator.resize(columns, rows)
        now = play([(2.0, Noticed(text=f"now {columns}"))], renderer, now)
        regions = [line for line in emulator.shown if BAR in line]
        assert len(regions) == 1
        assert BAR in emulator.shown[-1]
        assert all(width(line) < columns for line in renderer._drawn)


def test_where_a_terminal_wraps_anew_it_goes_up_by_the_wrapped_rows() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator, reflows=True)
    play(busy(3), renderer)
    play([(1.0, Noticed(text="x"))], renderer, 1.0)
    rows = [-(-width(line) // 50) or 1 for line in renderer._drawn]
    assert max(rows) > 1
    emulator.resize(50, 30)
    renderer.tick(10.0)
    assert f"\r\x1b[{sum(rows) - 1}A\x1b[J" in emulator.writes[-1]


def test_a_burst_of_a_thousand_events_is_one_write_and_loses_nothing() -> None:
    emulator = Emulator(80, 24)
    renderer = live(emulator)
    play([(0, started())], renderer)
    before = len(emulator.writes)
    for n in range(1000):
        renderer.handle(settled(f"checks.burst-{n}"))
    renderer.tick(1.0)
    assert len(emulator.writes) == before + 1
    assert sum("burst-" in line for line in emulator.everything) == 1000
    assert BAR in emulator.shown[-1]


def test_it_draws_at_most_ten_times_a_second() -> None:
    emulator = Emulator(80, 24)
    renderer = live(emulator)
    for n in range(1000):
        renderer.handle(found(f"checks.a-{n}") if n else started())
        renderer.tick(n / 1000)
    assert len(emulator.writes) <= 1 / FRAME_S + 1


def test_nothing_is_written_where_nothing_changed() -> None:
    emulator = Emulator(80, 24)
    renderer = live(emulator)
    play([(0, started())], renderer)
    before = len(emulator.writes)
    for n in range(5):
        renderer.tick(0.2 + n / 10)
    assert len(emulator.writes) == before


def test_every_frame_is_one_synchronized_write_on_the_normal_screen() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator)
    play(sample_run(), renderer)
    renderer.close()
    assert all(text.startswith("\x1b[?2026h") and text.endswith("\x1b[?2026l") for text in emulator.writes)
    assert not any("\x1b[?1049" in text or "\x1b[2J" in text for text in emulator.writes)


def test_only_names_that_last_appear_and_timers_start_at_a_second() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator)
    now = play([*busy(1)], renderer)
    assert not any("pkg-0" in line for line in emulator.shown)
    renderer.tick(now + 0.5)
    line = next(line for line in emulator.shown if "pkg-0" in line)
    assert " s " not in line.replace("about 1 min", "")
    renderer.tick(now + 5.0)
    assert " 5 s  of about 1 min" in next(line for line in emulator.shown if "pkg-0" in line)


def test_the_region_does_not_jump_when_builds_end() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator)
    now = play([*busy(6), (1.0, Noticed(text="x"))], renderer)
    bar_at = len(emulator.shown)
    for n in range(5):
        renderer.handle(work_ended(n, f"pkg-{n}-1.0"))
    renderer.tick(now + 0.2)
    assert len(emulator.shown) == bar_at
    renderer.handle(settled("checks.pkg-0"))
    renderer.tick(now + 0.4)
    assert len(emulator.shown) == bar_at
    renderer.tick(now + 10.0)
    assert len(emulator.shown) < bar_at


def test_suspended_it_leaves_a_clean_terminal_and_keeps_what_happens() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator)
    now = play(busy(), renderer)
    renderer.suspend()
    assert not emulator.cursor_hidden
    assert not any(BAR in line for line in emulator.shown)
    written = len(emulator.writes)
    now = play([(1.0, Noticed(text="kept")), (1.0, Noticed(text="kept too"))], renderer, now)
    assert len(emulator.writes) == written
    emulator.write("$ fg\r\n")
    renderer.resume()
    shown = emulator.shown
    assert shown.index("$ fg") < shown.index("note kept") < shown.index("note kept too")
    assert BAR in shown[-1]


def test_hostile_logs_and_names_do_nothing_to_the_terminal() -> None:
    evil = "\x1b[2J\x1b[H\x1b]0;owned\x07evil\x1b[?1049h\r\x1b["
    emulator = Emulator(100, 30)
    renderer = live(emulator)
    events: list[tuple[float, RunEvent]] = [
        (0, started(project=evil, base_reason=evil, targets=(evil,))),
        (0, Noticed(text=evil)),
        (0, found(("checks", evil))),
        (0, erred("checks.bad", evil, position=evil)),
        (0, planned()),
        (0, work_started(1, evil, machine=evil, for_attributes=(("checks", evil),))),
        (2, output(1, evil)),
        (0, work_ended(1, evil, Outcome.BUILD_FAILED, message=evil, tail=(evil,), exit_status=1)),
        (0, settled(("checks", evil), evil, Outcome.BUILD_FAILED, how=evil)),
        (0, ended(sentence=evil)),
    ]
    play(events, renderer)
    renderer.close()
    assert emulator.screen.title == ""
    assert "nixmill run 12" in emulator.everything[0]


def test_wide_characters_never_wrap_the_region() -> None:
    emulator = Emulator(60, 30)
    renderer = live(emulator)
    builds = [(0.0, work_started(n, "漢字" * 30)) for n in range(4)]
    play([(0, started()), (0, planned()), *builds, (2, Noticed(text="x"))], renderer)
    assert sum("漢字" in line for line in emulator.shown) == 4
    assert BAR in emulator.shown[-1]


def test_without_colour_no_colour_code_is_written() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator, colour=False)
    play(sample_run(), renderer)
    renderer.close()
    assert SGR.search("".join(emulator.writes)) is None


def test_without_unicode_everything_is_ascii() -> None:
    emulator = Emulator(100, 30)
    renderer = live(emulator, unicode=False)
    play([*evaluation(), (0, Noticed(text="漢字 – naïve"))], renderer)
    play([event for event in sample_run() if event not in list(evaluation())], renderer, 10.0)
    renderer.close()
    assert "".join(emulator.writes).isascii()
