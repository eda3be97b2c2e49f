"""Deliveries of Gitea and GitLab with anything in the place of anything: read, or refused in a sentence."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.forge import Hint, MalformedEventError
from nixmill.edge.forge import gitea_events, gitlab_events

DATA: Final = Path(__file__).parents[1] / "data" / "forges"
GITEA: Final = {file.stem: json.loads(file.read_text()) for file in sorted((DATA / "gitea/deliveries").iterdir())}
GITLAB: Final = {file.stem: json.loads(file.read_text()) for file in sorted((DATA / "gitlab/deliveries").iterdir())}
LEAVES: Final = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING: Final = st.recursive(
    LEAVES | st.integers(10**17, 10**40) | st.text(min_size=2000, max_size=3000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places_of(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:  # noqa: ANN401 - any JSON
    """Return where in a delivery something can be put."""
    if not isinstance(value, dict):
        return [at]
    return [at, *(place for name, inner in value.items() for place in places_of(inner, (*at, name)))]


def put(value: Any, at: tuple[str, ...], new: object) -> Any:  # noqa: ANN401 - any JSON
    """Return a delivery with something else in one place."""
    return {**value, at[0]: put(value[at[0]], at[1:], new)} if at else new


@st.composite
def spoilt(draw: st.DrawFn, examples: dict[str, Any]) -> tuple[str, bytes]:
    """Return the kind and the body of a delivery in which up to three things are others."""
    name = draw(st.sampled_from(sorted(examples)))
    body = examples[name]
    for _ in range(draw(st.integers(1, 3))):
        body = put(body, draw(st.sampled_from(places_of(body))), draw(ANYTHING))
    return name, json.dumps(body).encode()


def check(hints: tuple[Hint, ...]) -> None:
    """Hold hints to what the database takes."""
    for hint in hints:
        assert 0 <= hint.pull_request < 2**31
        assert hint.repository_id == "" or -(2**63) <= int(hint.repository_id) < 2**63
        texts = (hint.repository, hint.ref, hint.commit, hint.comment, hint.actor.login if hint.actor else "")
        assert all(len(text) <= 1000 and "\0" not in text for text in texts)


@given(spoilt(GITEA))
def test_gitea(delivery: tuple[str, bytes]) -> None:
    kind, body = delivery
    signature = hmac.new(b"s", body, hashlib.sha256).hexdigest()
    try:
        event = gitea_events.event_of({"x-gitea-event": kind, "x-gitea-signature": signature}, body, ["s"])
    except MalformedEventError as error:
        assert 0 < len(str(error)) < 500  # noqa: PT017 - either way is fine
    else:
        check(event.hints)


@given(spoilt(GITLAB))
def test_gitlab(delivery: tuple[str, bytes]) -> None:
    _, body = delivery
    try:
        event = gitlab_events.event_of({"x-gitlab-token": "s"}, body, ["s"], 0.0)
    except MalformedEventError as error:
        assert 0 < len(str(error)) < 500  # noqa: PT017 - either way is fine
    else:
        check(event.hints)
