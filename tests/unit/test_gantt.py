"""The timeline of a run as SVG: lanes, rows, links, and nothing in it that names did not mean."""

import xml.etree.ElementTree as ET
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict
from nixmill.core.view.pages import TimelinePage
from nixmill.core.view.parts import AttemptLine
from nixmill.web.gantt import drawn, lanes
from tests.fakes.pages import HOSTILE_TEXT, NOW, run
from tests.fakes.pages_b import tried

spans = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 200), st.sampled_from(["local", "a", "b"])), max_size=40)


def attempts(found: list[tuple[int, int, str]]) -> list[AttemptLine]:
    return [
        tried(at, at=NOW + begin, seconds=seconds, machine=machine)
        for at, (begin, seconds, machine) in enumerate(found)
    ]


@given(spans)
def test_bars_in_a_row_do_not_overlap_and_no_row_is_needless(found: list[tuple[int, int, str]]) -> None:
    given_ = attempts(found)
    shown = list(lanes(given_, NOW))
    assert sorted(bar.number for lane in shown for bar, _ in lane.bars) == [a.number for a in given_]
    for lane in shown:
        for row in range(lane.rows):
            bars = [bar for bar, at in lane.bars if at == row]
            assert bars
            assert all(one.started_at + one.seconds <= two.started_at for one, two in pairwise(bars))


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - it is our own


def page(*found: AttemptLine, critical: tuple[str, ...] = ()) -> TimelinePage:
    chain = tuple(attempt.drv_path for attempt in found if attempt.name in critical)
    return TimelinePage(run=run(412, Verdict.GOOD), attempts=found, left_out=0, critical=chain)


def test_a_bar_is_a_link_to_its_log_and_says_what_it_is() -> None:
    root = parsed(
        drawn(page(tried(7, "libfoo", seconds=60.0), tried(8, "x", Outcome.SUCCEEDED), critical=("libfoo",)), NOW)
    )
    links = root.findall("a")
    assert [link.get("href") for link in links] == ["/log/7", "/log/8"]
    assert links[0].get("class") == "b-failed critical"
    assert links[0].findtext("title") == "libfoo: failed, 1 min 0 s, on the critical path"


def test_a_running_attempt_reaches_to_now() -> None:
    root = parsed(drawn(page(tried(7, outcome=None, at=NOW - 100)), NOW))
    bar = root.find("a/rect")
    assert bar is not None and bar.get("width") == "1000"


def test_names_stay_text() -> None:
    shown = drawn(page(tried(7, HOSTILE_TEXT, machine="ssh-ng://<b>")), NOW)
    root = parsed(shown)
    assert {element.tag for element in root.iter()} <= {"svg", "a", "title", "rect", "text", "line"}
    assert "style=" not in shown


def test_nothing_is_drawn_of_nothing() -> None:
    assert drawn(page(), NOW) == ""


@given(st.floats(0.0, 1e7))
def test_there_are_at_most_eleven_times_on_the_axis(seconds: float) -> None:
    root = parsed(drawn(page(tried(1, at=NOW - 1e8, seconds=seconds)), NOW))
    assert len([line for line in root.findall("line") if line.get("y1") == "14"]) <= 11
