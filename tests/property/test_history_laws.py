"""Laws of the history: what is recorded is read, whatever strangers call their attributes."""

import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.core.evaluation import Attribute, EvalError, EvalFault
from nixmill.core.history import EvaluationRow, Keep, runs_to_prune
from nixmill.core.outcome import Outcome
from nixmill.edge.database.history import open_history
from nixmill.edge.database.rows import clean, path_of, path_text
from nixmill.nix.store_path import StorePath
from tests.support.history_rows import a_run, an_outcome

NASTY = st.sampled_from(
    [
        "a.b",
        "..",
        "/",
        '"',
        "${x}",
        "\n",
        "\\",
        " ",
        "é",
        "\u2028",
        "😀",
        "'; DROP TABLE nm_run;--",
        "%s",
        "\x1b[0m",
        "",
    ]
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = st.one_of(NASTY, TEXT)
PATHS = st.lists(NAMES, max_size=4).map(tuple)
STORE_PATHS = st.from_regex(r"/nix/store/[0-9a-df-np-sv-z]{32}-[a-z]{1,8}", fullmatch=True).map(StorePath)

ATTRIBUTES = st.builds(
    Attribute,
    path=PATHS,
    name=TEXT,
    system=TEXT,
    drv_path=STORE_PATHS,
    outputs=st.dictionaries(TEXT, st.none() | STORE_PATHS, max_size=3),
    description=TEXT,
    maintainers=st.lists(TEXT, max_size=2).map(tuple),
    timeout_s=st.none() | st.integers(0, 2**40),
    max_silent_s=st.none() | st.integers(0, 2**40),
    traces=st.lists(TEXT, max_size=2).map(tuple),
)
ERRORS = st.builds(
    EvalError,
    path=PATHS,
    fault=st.sampled_from(EvalFault),
    message=TEXT,
    position=TEXT,
    peak_bytes=st.none() | st.integers(0, 2**40),
    traces=st.lists(TEXT, max_size=2).map(tuple),
)


def _evaluation(attributes: list[Attribute], errors: list[EvalError]) -> EvaluationRow:
    return EvaluationRow(
        key="key", run=1, tree_hash="t", commit="c", seconds=1.25, attributes=tuple(attributes), errors=tuple(errors)
    )


@settings(max_examples=15, deadline=None)
@given(st.lists(ATTRIBUTES, max_size=8, unique_by=lambda each: each.path), st.lists(ERRORS, max_size=4))
async def test_an_evaluation_is_read_as_it_was_recorded(attributes: list[Attribute], errors: list[EvalError]) -> None:
    row = _evaluation(attributes, errors)
    with tempfile.TemporaryDirectory() as directory:
        async with open_history(Path(directory) / "history.sqlite") as history:
            run = await history.start_run(a_run())
            outcomes = [an_outcome(run, *each.path) for each in attributes]
            await history.record([row, *outcomes])
            found = await history.evaluation("key")
            assert found is not None
            assert msgspec.structs.replace(found, outcomes={}) == row
            assert found.outcomes == {each.path: (Outcome.SUCCEEDED, run) for each in attributes}
            assert await history.attributes(run) == sorted(outcomes, key=lambda each: each.path)


@given(st.lists(st.text(), max_size=4).map(tuple))
def test_any_path_survives_even_lone_surrogates(path: tuple[str, ...]) -> None:
    assert path_of(path_text(path)) == path
    assert path_text(path).isascii()


@given(st.lists(st.text(), max_size=3).map(tuple), st.lists(st.text(), max_size=3).map(tuple))
def test_equal_texts_mean_equal_paths(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (path_text(one) == path_text(other)) == (one == other)


@given(st.text())
def test_cleaned_text_can_be_stored_and_only_loses_what_cannot(text: str) -> None:
    cleaned = clean(text)
    assert "\0" not in cleaned
    assert len(cleaned) == len(text)
    assert cleaned.encode().decode() == cleaned
    assert clean(cleaned) == cleaned
    assert all(before == after for before, after in zip(text, cleaned, strict=True) if after != "\ufffd")


RUNS = st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1e6)), max_size=20, unique_by=lambda run: run[0])


@given(RUNS, st.integers(0, 20), st.floats(0, 20))
def test_pruning_keeps_the_newest_and_the_young_and_nothing_else(
    runs: list[tuple[int, float]], count: int, days: float
) -> None:
    now = 1e6
    gone = runs_to_prune(runs, Keep(runs=count, days=days), now)
    newest = {number for number, _ in sorted(runs, reverse=True)[:count]}
    old = now - days * 86_400
    assert set(gone) == {number for number, started_at in runs if number not in newest and started_at < old}
    assert gone == sorted(gone)
