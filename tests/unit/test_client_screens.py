"""What a server's pages look like on a terminal, word by word (see `tests.support.screens`)."""

import msgspec
import pytest

from nixmill.cli.render.paint import Paint
from nixmill.cli.render.redraw import Redraw
from nixmill.cli.render.server_view import home_lines, project_lines, queue_lines, run_lines, watched_lines
from nixmill.core.access import Sight
from nixmill.core.terminal_text import width
from nixmill.core.view.pages import EvaluationPage
from tests.fakes.pages import BUILDING_RUN, HOSTILE_TEXT, LAST_RUN, NOW, FakeProjectPages, FakeRunPages
from tests.fakes.pages_b import BusyOffice
from tests.support.screens import Emulator, check_screen

PLAIN = Paint(colour=False, unicode=True)
ALL = Sight(everything=True)


async def evaluation(number: int) -> EvaluationPage:
    page = await FakeRunPages().evaluation(ALL, number, None, "", 1, 20)
    assert page is not None
    return page


@pytest.mark.parametrize("columns", [80, 120])
async def test_home(request: pytest.FixtureRequest, columns: int) -> None:
    lines = home_lines(await FakeProjectPages().home(ALL), PLAIN, NOW, columns)
    assert max(map(width, lines)) <= columns
    check_screen(request, f"status-home-{columns}", lines)


async def test_a_project(request: pytest.FixtureRequest) -> None:
    page = await FakeProjectPages().project(ALL, "mill")
    assert page is not None
    check_screen(request, "status-project-80", project_lines(page, PLAIN, NOW, 80))


@pytest.mark.parametrize("number", [LAST_RUN, BUILDING_RUN])
async def test_a_run(request: pytest.FixtureRequest, number: int) -> None:
    lines = run_lines(await evaluation(number), PLAIN, NOW, 80, f"https://ci.example.org/r/{number}")
    assert max(map(width, lines)) <= 80
    check_screen(request, f"status-run-{number}-80", lines)


@pytest.mark.parametrize("why", [False, True])
async def test_the_queue(request: pytest.FixtureRequest, *, why: bool) -> None:
    lines = queue_lines(await BusyOffice().queue(ALL), PLAIN, NOW, 80, why=why)
    assert max(map(width, lines)) <= 80
    check_screen(request, f"queue{'-why' if why else ''}-80", lines)


async def test_a_run_that_is_watched(request: pytest.FixtureRequest) -> None:
    page = await evaluation(BUILDING_RUN)
    emulator = Emulator(80, 24)
    redraw = Redraw(emulator, emulator.size, live=True)
    redraw.show(["a line that stays"], watched_lines(page, PLAIN, NOW, redraw.columns, redraw.rows), NOW)
    redraw.show(["another one"], watched_lines(page, PLAIN, NOW + 1, redraw.columns, redraw.rows), NOW + 1)
    assert emulator.cursor_hidden
    check_screen(request, "watch-80", emulator.shown)
    redraw.show((), watched_lines(page, PLAIN, NOW + 1, redraw.columns, 1), NOW + 1)
    assert len(emulator.shown) == 3
    redraw.close()
    assert emulator.shown == ["a line that stays", "another one"]
    assert not emulator.cursor_hidden


async def test_what_a_stranger_wrote_cannot_steer_the_terminal() -> None:
    page = await evaluation(BUILDING_RUN)
    evil = msgspec.structs.replace(page.run, subject=HOSTILE_TEXT, sentence=HOSTILE_TEXT, wait=HOSTILE_TEXT)
    page = msgspec.structs.replace(page, run=evil)
    shown = "".join([*run_lines(page, PLAIN, NOW, 200, ""), *watched_lines(page, PLAIN, NOW, 200, 9)])
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_in_a_pipe_silence_means_something() -> None:
    emulator = Emulator()
    redraw = Redraw(emulator, emulator.size, live=False)
    redraw.show(["begun"], ["frame", "how far"], 0.0)
    redraw.show([], ["frame", "how far"], 30.0)
    redraw.show([], ["frame", "still at it"], 61.0)
    redraw.close()
    assert "".join(emulator.writes) == "begun\nstill at it\n"
