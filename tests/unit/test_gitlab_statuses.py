"""Where a status goes on GitLab, and what it says there; what we say never becomes a command."""

import msgspec
import pytest

from nixmill.core.posting import CheckState, Posting
from nixmill.edge.forge.gitlab_replies import harmless
from nixmill.edge.forge.gitlab_statuses import Place, body_of, name_of, places_of
from nixmill.edge.forge.gitlab_wire import WireMergeRequest, WirePipeline, WireUser

HEAD = "a" * 40
POSTING = Posting(
    forge="gitlab", project=1, repository="octo/hello", commit=HEAD, context="nixmill", state=CheckState.GOOD,
    title="All is well", url="https://ci.example.org/runs/7", run=7, generation=1, pull_request=3,
)  # fmt: skip
INSIDE = WireMergeRequest(
    iid=3, title="", state="opened", author=WireUser(5, "ann"), web_url="", source_branch="topic", target_branch="main",
    target_project_id=10, source_project_id=10, sha=HEAD,
)  # fmt: skip
FALLBACK = Place("octo/hello", "refs/merge-requests/3/head")


def pipeline(project: int = 10, sha: str = HEAD) -> WirePipeline:
    return WirePipeline(id=77, sha=sha, ref="refs/merge-requests/3/head", project_id=project)


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, [Place(10, "topic")]),
        ({"source_project_id": 11}, [Place(11, "topic"), FALLBACK]),
        ({"source_project_id": None}, [FALLBACK]),
        ({"head_pipeline": pipeline()}, [Place(10, "refs/merge-requests/3/head", 77)]),
        (
            {"source_project_id": 11, "head_pipeline": pipeline(11)},
            [Place(11, "refs/merge-requests/3/head", 77), FALLBACK],
        ),
        ({"head_pipeline": pipeline(sha="b" * 40)}, [Place(10, "topic")]),
    ],
    ids=["inside", "fork", "fork deleted", "a pipeline", "a pipeline of the fork", "a pipeline of another commit"],
)
def test_places(changes: dict[str, object], places: list[Place]) -> None:
    assert places_of(msgspec.structs.replace(INSIDE, **changes), POSTING) == places


def test_only_good_is_success() -> None:
    states = {state: body_of(msgspec.structs.replace(POSTING, state=state))["state"] for state in CheckState}
    assert [state for state, said in states.items() if said == "success"] == [CheckState.GOOD]
    assert "skipped" not in states.values()


def test_long_names_stay_apart() -> None:
    one, other = (name_of("nixmill: " + "x" * 400 + end) for end in "ab")
    assert one != other
    assert max(len(one), len(other)) <= 255


@pytest.mark.parametrize("gap", ["", "\n", "\r\n", "\r", "\n \t", "\n\u00a0", "\n\v", "\u2028"])
def test_no_line_of_ours_is_a_quick_action(gap: str) -> None:
    said = harmless(f"{gap}/merge{gap}" if gap else "/merge")
    assert not any(line.strip().startswith("/") for line in said.splitlines())
    assert "/merge" in said


def test_other_slashes_stay() -> None:
    text = "see `a/b` and https://x.example/y\n- /x\n> /y"
    assert harmless(text) == text
