"""Laws of reading GitHub's deliveries: whatever a signed body holds, it is a hint, nothing, or an error of one kind."""

import copy
import json
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.core.forge import Hint, HintKind, MalformedEventError
from nixmill.edge.forge.github_events import hints

APP: Final = 25_811
EXAMPLES: Final = json.loads((Path(__file__).parents[1] / "data/forges/github/events.json").read_text())
EVENTS: Final = sorted({one["event"] for one in EXAMPLES})
SCALARS: Final = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=400))
VALUES: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


def read(event: str, body: bytes) -> tuple[Hint, ...]:
    """Return hints that can be kept; none where the event makes no sense."""
    try:
        found = hints(event, body, APP)
    except MalformedEventError as error:
        assert len(str(error)) < 500  # noqa: PT017 - most bodies raise, some do not
        return ()
    for hint in found:
        assert msgspec.json.decode(msgspec.json.encode(hint), type=Hint) == hint
        assert max(map(len, (hint.repository, hint.ref, hint.base_ref, hint.comment, hint.commit))) <= 310
        assert "\0" not in hint.repository + hint.ref + hint.base_ref
        assert 0 <= hint.pull_request < 2**63 and 0 <= hint.run < 2**63
    return found


@settings(deadline=None)
@given(st.sampled_from(EVENTS), st.binary(max_size=200))
def test_any_bytes(event: str, body: bytes) -> None:
    read(event, body)


@settings(deadline=None)
@given(st.sampled_from(EVENTS), VALUES)
def test_any_json(event: str, value: Any) -> None:  # noqa: ANN401 - JSON
    read(event, json.dumps(value).encode())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(EXAMPLES), st.data())
def test_an_example_with_one_part_changed(example: dict[str, Any], data: st.DataObject) -> None:
    payload = copy.deepcopy(example["payload"])
    inner = payload
    while isinstance(inner, dict) and inner:
        name = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[name], dict) or data.draw(st.booleans()):
            inner[name] = data.draw(VALUES)
            break
        inner = inner[name]
    read(example["event"], json.dumps(payload).encode())


@settings(deadline=None)
@given(st.integers() | VALUES)
def test_only_the_button_of_our_own_app_approves(app: Any) -> None:  # noqa: ANN401 - JSON
    example = next(one["payload"] for one in EXAMPLES if "requested_action" in one["payload"])
    payload = {**example, "requested_action": {"identifier": "approve"}}
    payload["check_run"] = {**example["check_run"], "app": {"id": app}}
    found = read("check_run", json.dumps(payload).encode())
    assert any(hint.kind is HintKind.APPROVE for hint in found) == (app == APP and isinstance(app, int))
