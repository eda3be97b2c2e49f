import pytest

from nixmill.nix import build_result
from nixmill.nix.build_result import BuildResult, BuildStatus, Detail


@pytest.mark.parametrize(
    ("status", "message", "detail"),
    [
        (BuildStatus.TIMED_OUT, "timed out after 5 seconds of silence", Detail.SILENCE),
        (BuildStatus.TIMED_OUT, "timed out after 5 seconds", None),
        (BuildStatus.OUTPUT_REJECTED, "hash mismatch in fixed-output derivation 'x'", Detail.HASH_MISMATCH),
        (BuildStatus.OUTPUT_REJECTED, "output 'x' is not allowed to refer to 'y'", None),
        (BuildStatus.INPUT_REJECTED, "a 'x' with features {} is required to build 'y'", Detail.WRONG_MACHINE),
        (BuildStatus.PERMANENT_FAILURE, "the word silence means nothing here", None),
    ],
)
def test_only_the_text_tells_some_things(status: BuildStatus, message: str, detail: Detail | None) -> None:
    assert build_result.detail_of(status, message) is detail


@pytest.mark.parametrize("status", BuildStatus)
def test_good_results_are_those_whose_outputs_are_valid(status: BuildStatus) -> None:
    assert BuildResult(status=status).good == (status in {0, 1, 2, 13})
