"""Events as lines of JSON: one object a line, stable names, nothing lost."""

import json
import re

import pytest

from nixmill.cli.render.jsonl import JsonlRenderer, line
from nixmill.core.run_event import RunEvent
from tests.support.run_events import found, output, work_ended
from tests.support.sample_run import sample_run

EVENTS = [event for _, event in sample_run()]


class Pipe:
    """Takes text as a pipe does."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize("event", EVENTS, ids=[type(event).__name__ for event in EVENTS])
def test_names_are_in_kebab_and_snake_case(event: RunEvent) -> None:
    told = json.loads(line(event))
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", told["event"])
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in told)
    assert next(iter(told)) == "event"


def test_an_event_tells_all_its_fields() -> None:
    event = work_ended(7, "hello-1.0", failed_before=3)
    told = json.loads(line(event))
    assert told.pop("event") == "work-ended"
    assert told.keys() == set(event.__struct_fields__)
    assert (told["attempt"], told["outcome"], told["failed_before"]) == (7, "succeeded", 3)


def test_attribute_paths_stay_lists_of_names() -> None:
    assert json.loads(line(found(("a.b", "\n", "…"))))["attribute"]["path"] == ["a.b", "\n", "…"]


def test_any_log_fits_on_a_line_of_ascii() -> None:
    text = line(output(1, "a\nb\u2028\x1b[2J\udc80"))
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text)["lines"] == ["a\nb\u2028\x1b[2J\udc80"]


def test_standard_output_is_nothing_but_lines_of_json() -> None:
    pipe = Pipe()
    renderer = JsonlRenderer(pipe)
    for event in EVENTS:
        renderer.handle(event)
        renderer.tick(0.0)
    renderer.suspend()
    renderer.resume()
    renderer.close()
    assert len([json.loads(text) for text in pipe.text.splitlines()]) == len(EVENTS)
