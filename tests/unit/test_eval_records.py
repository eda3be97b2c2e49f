"""What a worker says, folded into records."""

import json

import pytest

from nixmill.core.evaluation import Attribute, EvalError, EvalFault, EvalRecord, EvaluationTrace, ImportFromDerivation
from nixmill.edge.evaluator.log_lines import (
    BuildStarted,
    BuildStopped,
    Failed,
    LineReader,
    LogEvent,
    Noted,
    Said,
    Stray,
)
from nixmill.edge.evaluator.records import Context, Reader, TargetFailedError, UnknownAttributeError
from nixmill.edge.evaluator.segments import Frontier

DRV = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-a-1.drv"
OUT = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-a-1"
JOB = json.dumps(
    {"n": "a-1", "s": "x86_64-linux", "d": DRV, "o": [["out", OUT], ["doc", "/1rz4g4znpzjwh1xymhjpm42vipw9"]]}
)
META = json.dumps({"d": "words", "p": ["m@x", None], "t": 5, "s": None})


class Talk:
    """A reader that has been asked for one target."""

    def __init__(self) -> None:
        self.records: list[EvalRecord] = []
        self.frontier = Frontier((("checks",),))
        context = Context(tree_path="/src", show_trace=False)
        self.reader = Reader(self.frontier, context, self.records.append)
        batch = self.frontier.take(1, 1)
        assert batch is not None
        self.reader.expect(batch)

    def hear(self, *events: LogEvent) -> list[EvalRecord]:
        for i, event in enumerate(events):
            self.reader.hear(event, float(i))
        return self.records


SET = (Said("b", "0"), Said("r", "0"), Said("s", '["a", "b"]'))


def test_a_job_is_finished_by_what_follows_it() -> None:
    talk = Talk()
    assert talk.hear(*SET, Said("b", "0.0"), Said("j", JOB), Said("m", META)) == []

    [job] = talk.hear(Said("b", "0.1"))

    assert job == Attribute(
        path=("checks", "a"),
        name="a-1",
        system="x86_64-linux",
        drv_path=DRV,  # type: ignore[arg-type]
        outputs={"out": OUT, "doc": None},  # type: ignore[dict-item]
        description="words",
        maintainers=("m@x",),
        timeout_s=5,
    )


def test_an_error_belongs_to_the_item_at_hand_with_its_traces() -> None:
    talk = Talk()

    records = talk.hear(
        *SET,
        Said("b", "0.0"),
        Noted("seen"),
        Failed("error: attribute 'x' missing\n\n       at /src/a.nix:1:2:"),
        Said(".", ""),
    )

    assert records == [
        EvalError(
            path=("checks", "a"),
            fault=EvalFault.MISSING_ATTRIBUTE,
            message="attribute 'x' missing",
            position="a.nix:1:2",
            traces=("seen",),
        )
    ]


def test_an_error_after_the_job_was_said_loses_only_its_meta() -> None:
    [job] = Talk().hear(*SET, Said("b", "0.0"), Said("j", JOB), Failed("error: bad meta"), Said(".", ""))

    assert isinstance(job, Attribute)
    assert job.traces == ("meta could not be read: bad meta",)


def test_an_error_that_did_not_end_the_item_is_a_trace_of_it() -> None:
    failures = (Failed("error: first"), Failed("error: second"))

    [error] = Talk().hear(*SET, Said("b", "0.0"), *failures, Said(".", ""))

    assert isinstance(error, EvalError)
    assert (error.message, error.traces) == ("second", ("first",))


def test_traces_of_sets_belong_to_no_attribute() -> None:
    records = Talk().hear(
        Said("b", "0"), Said("r", "0"), Noted("before"), Said("s", "[]"), Noted("after"), Said(".", "")
    )

    assert sorted(record.text for record in records if isinstance(record, EvaluationTrace)) == ["after", "before"]


def test_too_many_traces_are_cut_visibly() -> None:
    notes = [Noted(f"{i}") for i in range(150)] + [Noted("x" * 10_000)]

    [job] = Talk().hear(*SET, Said("b", "0.0"), *notes, Said("j", JOB), Said(".", ""))

    assert isinstance(job, Attribute)
    assert len(job.traces) == 101
    assert "more than 100" in job.traces[-1]


def test_a_large_set_is_queued_and_a_small_one_expected_at_once() -> None:
    talk = Talk()
    talk.hear(Said("b", "0"), Said("r", "0"), Said("s", json.dumps([f"n{i}" for i in range(9)])))
    assert talk.frontier.available == 9
    with pytest.raises(ValueError, match="nothing more"):
        talk.hear(Said("b", "0.0"))


def test_a_target_that_was_not_loaded_fails_the_whole() -> None:
    with pytest.raises(TargetFailedError) as failure:
        Talk().hear(Said("b", "0"), Failed("error: no flake"), Said(".", ""))
    assert failure.value.text == "error: no flake"


def test_a_target_that_was_loaded_fails_alone() -> None:
    [error] = Talk().hear(Said("b", "0"), Said("r", "0"), Failed("error: shut"), Said(".", ""))
    assert isinstance(error, EvalError)
    assert error.path == ("checks",)


def test_an_attribute_that_does_not_exist_is_told_with_its_neighbours() -> None:
    with pytest.raises(UnknownAttributeError) as failure:
        Talk().hear(Said("b", "0"), Said("r", "0"), Said("u", '{"t":0,"i":0,"n":["a"]}'))
    assert failure.value.found.names == ["a"]


def test_builds_are_timed_and_belong_to_the_item_at_hand() -> None:
    records = Talk().hear(
        *SET, Said("b", "0.0"), BuildStarted(7, DRV), BuildStopped(8), BuildStopped(7), BuildStopped(7)
    )
    assert records == [ImportFromDerivation(drv_path=DRV, seconds=2.0, path=("checks", "a"))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "job",
    [
        {"n": "a", "s": "x", "d": "/etc/passwd", "o": []},
        {"n": "a", "s": "x", "d": "relative", "o": []},
        {"n": None, "s": "x", "d": DRV, "o": []},
        {"n": "a", "s": "x", "d": None, "o": []},
        {"n": "a", "s": "x", "d": OUT, "o": []},
        {"n": "a", "s": "x", "d": DRV, "o": [["out", "/nix/store/short"]]},
    ],
)
def test_what_only_pretends_to_be_a_derivation_is_an_error(job: object) -> None:
    [error] = Talk().hear(*SET, Said("b", "0.0"), Said("j", json.dumps(job)), Said(".", ""))
    assert isinstance(error, EvalError)
    assert error.fault is EvalFault.TYPE_ERROR


TOKEN = "nixmill-0123-"  # noqa: S105 - no secret


def line(**fields: object) -> bytes:
    return b"@nix " + json.dumps(fields, separators=(",", ":")).encode()


def test_lines_of_the_walker_are_told_from_all_others() -> None:
    read = LineReader(TOKEN).read

    assert read(line(action="msg", level=0, msg=f"trace: {TOKEN}b0.3.17")) == Said("b", "0.3.17")
    assert read(line(action="msg", level=0, msg=f'trace: {TOKEN}s["é\\""]')) == Said("s", '["é\\""]')
    assert read(line(action="msg", level=0, msg=f"trace: x {TOKEN}b0")) == Noted(f"x {TOKEN}b0")
    assert read(line(action="msg", level=0, msg="\x1b[31;1merror:\x1b[0m x")) == Failed("error: x")
    assert read(line(action="msg", level=1, msg="\x1b[35;1mwarning:\x1b[0m y")) == Noted("y")
    assert read(line(action="msg", level=3, msg="copying")) is None
    assert read(line(action="start", id=4, type=105, fields=[DRV, "", 1, 1], level=3, text="building")) == BuildStarted(
        4, DRV
    )
    assert read(line(action="start", id=5, type=0, level=3, text="evaluating")) is None
    assert read(line(action="stop", id=4)) == BuildStopped(4)
    assert read(b"error: stack overflow (possible infinite recursion)") == Stray(
        "error: stack overflow (possible infinite recursion)"
    )
    assert read(b"") is None
    assert isinstance(read(b"@nix {broken"), Stray)
    assert isinstance(read(b"@nix \xff\xfe"), Stray)
