"""Charts: well-formed, with their data beneath, right at the edges."""

import re
from xml.etree import ElementTree as ET

import pytest

from nixmill.core.view.parts import Point
from nixmill.web import charts
from tests.fakes.pages import points


def drawing(figure: str) -> ET.Element:
    found = re.search(r"<svg.*?</svg>", figure, re.DOTALL)
    assert found is not None
    return ET.fromstring(found[0])  # noqa: S314 - of our own making


def test_bars_are_linked_and_have_a_table() -> None:
    figure = charts.bars(points(20, 31.0), "Duration")
    svg = drawing(figure)
    assert svg.get("aria-label") == "Duration"
    links = svg.findall("a")
    assert [link.get("href") for link in links][:2] == ["/r/393", "/r/394"]
    assert all((link.findtext("title") or "").startswith("run ") for link in links)
    assert figure.count("<tr><td>") == 20
    assert "style=" not in figure, "the content security policy forbids it"


def test_a_failed_bar_is_told_by_shape_too() -> None:
    bad = [
        link
        for link in drawing(charts.bars(points(20, 31.0), "x")).findall("a")
        if link.find("rect[@class='bad']") is not None
    ]
    assert len(bad) == 1 and bad[0].findtext("text") == "✖"
    assert "failed" in (bad[0].findtext("title") or "")


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1e-9], [1e12, 1.0], [5.0] * 500])
@pytest.mark.parametrize("draw", [charts.bars, charts.sizes])
def test_everything_drawn_lies_inside(values: list[float], draw: "object") -> None:
    made = [Point(run=at, at=0.0, value=value, good=True) for at, value in enumerate(values)]
    svg = drawing(str(draw(made, "x")))  # type: ignore[operator]
    for element in svg.iter():
        for key in ("x", "cx"):
            assert 0 <= float(element.get(key, 0)) <= charts.WIDTH
        for key in ("y", "cy", "height"):
            assert 0 <= float(element.get(key, 0)) <= charts.HEIGHT


def test_nothing_makes_no_chart() -> None:
    assert charts.bars((), "x") == charts.sizes((), "x") == charts.progress({}) == ""


@pytest.mark.parametrize(
    ("values", "base", "top"),
    [
        ([0], 60, 1),
        ([59], 60, 60),
        ([61], 60, 120),
        ([601], 60, 1200),
        ([1000], 1024, 1024),
        ([3 << 20], 1024, 3 << 20),
    ],
)
def test_the_top_of_an_axis_is_round(values: list[float], base: int, top: float) -> None:
    assert charts.nice_top(values, base) == top


def test_progress_says_how_much_is_done() -> None:
    svg = drawing(charts.progress({"all": 200, "passed": 100, "failed": 50, "running": 50}))
    assert svg.get("aria-label") == "150 of 200 done"
    assert [(part.get("class"), part.get("width")) for part in svg] == [
        ("passed", "50"),
        ("failed", "25"),
        ("trouble", "0"),
    ]


def test_titles_are_data() -> None:
    assert "<b>" not in charts.bars(points(2, 1.0), "<b>")
