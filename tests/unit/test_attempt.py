"""What the end of an attempt means. Messages are Nix's own, of 2.8 and 2.34."""

from typing import Any

import pytest

from nixmill.core.attempt import Circumstances, Ending, RetryPolicy, Trouble, classify, exit_status
from nixmill.core.outcome import Outcome
from nixmill.nix.build_result import BuildResult, BuildStatus, Detail, detail_of
from nixmill.nix.store_path import StorePath

DRV = StorePath("/nix/store/qkxasapq8gr3dipf3m4p17c7jpyl7bj6-x.drv")
NO_SYSTEM_2_8 = (
    f"a 'riscv64-linux' with features {{}} is required to build '{DRV}', "
    "but I am a 'x86_64-linux' with features {benchmark, kvm}"
)
NO_SYSTEM_2_34 = (
    f"Cannot build '{DRV}'.\nReason: required system or feature not available\n"
    "Required system: 'riscv64-linux' with features {}\nCurrent system: 'x86_64-linux' with features {kvm}"
)


def outcome(status: BuildStatus, message: str = "", **facts: Any) -> Outcome:  # noqa: ANN401 (fields of Circumstances)
    result = BuildResult(status=status, message=message, detail=detail_of(status, message))
    return classify(result, Circumstances(**facts)).outcome


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (BuildStatus.BUILT, Outcome.SUCCEEDED),
        (BuildStatus.SUBSTITUTED, Outcome.SUCCEEDED),
        (BuildStatus.ALREADY_VALID, Outcome.SUCCEEDED),
        (BuildStatus.RESOLVES_TO_ALREADY_VALID, Outcome.SUCCEEDED),
        (BuildStatus.PERMANENT_FAILURE, Outcome.BUILD_FAILED),
        (BuildStatus.INPUT_REJECTED, Outcome.BUILD_FAILED),
        (BuildStatus.OUTPUT_REJECTED, Outcome.BUILD_FAILED),
        (BuildStatus.TRANSIENT_FAILURE, Outcome.INFRASTRUCTURE),
        (BuildStatus.CACHED_FAILURE, Outcome.BUILD_FAILED),
        (BuildStatus.TIMED_OUT, Outcome.TIMED_OUT),
        (BuildStatus.MISC_FAILURE, Outcome.INFRASTRUCTURE),
        (BuildStatus.DEPENDENCY_FAILED, Outcome.INFRASTRUCTURE),
        (BuildStatus.LOG_LIMIT_EXCEEDED, Outcome.LOG_TOO_LARGE),
        (BuildStatus.NOT_DETERMINISTIC, Outcome.NOT_DETERMINISTIC),
        (BuildStatus.NO_SUBSTITUTERS, Outcome.INFRASTRUCTURE),
    ],
)
def test_each_number_of_nix_has_its_outcome(status: BuildStatus, expected: Outcome) -> None:
    assert outcome(status) is expected


def test_no_number_of_nix_is_left_out() -> None:
    for status in BuildStatus:
        assert outcome(status) in Outcome


def test_a_fixed_output_that_fails_is_an_ordinary_failure_unless_the_disk_was_full() -> None:
    failed = f"builder for '{DRV}' failed with exit code 1"
    assert outcome(BuildStatus.TRANSIENT_FAILURE, failed, fixed_output=True) is Outcome.BUILD_FAILED
    full = "error: writing to file: No space left on device"
    assert outcome(BuildStatus.TRANSIENT_FAILURE, full, fixed_output=True) is Outcome.INFRASTRUCTURE


def test_a_hash_mismatch_is_told_from_an_output_that_is_rejected() -> None:
    mismatch = f"hash mismatch in fixed-output derivation '{DRV}':\n  specified: sha256-A\n     got:    sha256-B"
    assert outcome(BuildStatus.OUTPUT_REJECTED, mismatch, fixed_output=True) is Outcome.HASH_MISMATCH
    missing = f"builder for '{DRV}' failed to produce output path '/nix/store/x'"
    assert outcome(BuildStatus.OUTPUT_REJECTED, missing, fixed_output=True) is Outcome.BUILD_FAILED


def test_too_long_is_told_from_too_silent() -> None:
    assert outcome(BuildStatus.TIMED_OUT, "timed out after 5 seconds of silence") is Outcome.SILENT
    assert outcome(BuildStatus.TIMED_OUT, "timed out after 60 seconds") is Outcome.TIMED_OUT
    told = BuildResult(status=BuildStatus.TIMED_OUT, message="timed out after 5 seconds", detail=Detail.SILENCE)
    assert classify(told, Circumstances()).outcome is Outcome.SILENT


@pytest.mark.parametrize("message", [NO_SYSTEM_2_8, NO_SYSTEM_2_34])
def test_a_machine_that_cannot_build_it_is_no_fault_of_the_project(message: str) -> None:
    assert outcome(BuildStatus.INPUT_REJECTED, message) is Outcome.NO_MACHINE
    assert outcome(BuildStatus.MISC_FAILURE, message) is Outcome.NO_MACHINE
    ending = classify(Trouble(message=message, retryable=False), Circumstances())
    assert (ending.outcome, ending.retryable) == (Outcome.NO_MACHINE, False)


def test_a_lost_input_is_our_trouble_where_we_had_made_it_present() -> None:
    assert outcome(BuildStatus.DEPENDENCY_FAILED, inputs_present=False) is Outcome.DEPENDENCY_FAILED


def test_what_nix_has_no_number_for_is_a_failure_where_the_builder_ran() -> None:
    assert outcome(BuildStatus.MISC_FAILURE, f"builder for '{DRV}' failed with exit code 3") is Outcome.BUILD_FAILED


def test_cancelling_wins_over_the_broken_connection_it_causes() -> None:
    broken = Trouble(message="The daemon closed the connection.", retryable=True)
    assert classify(broken, Circumstances(cancelled=True)).outcome is Outcome.CANCELLED
    assert classify(broken, Circumstances()).outcome is Outcome.INFRASTRUCTURE


def test_an_output_that_is_too_large_fails_though_it_was_built() -> None:
    large = BuildResult(status=BuildStatus.OUTPUT_REJECTED, message="too large", detail=Detail.OUTPUT_SIZE)
    assert classify(large, Circumstances()).outcome is Outcome.OUTPUT_TOO_LARGE


def test_a_build_that_was_done_before_it_was_cancelled_is_done() -> None:
    assert outcome(BuildStatus.BUILT, cancelled=True) is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (f"builder for '{DRV}' failed with exit code 37", 37),
        (f"builder for '{DRV}' failed due to signal 9 (Killed)", -9),
        (f"Cannot build '{DRV}'.\nReason: builder failed with exit code 100.", 100),
        ("timed out after 5 seconds", None),
        ("", None),
    ],
)
def test_the_exit_status_is_read_from_the_message(message: str, status: int | None) -> None:
    assert exit_status(message) == status
    assert classify(BuildResult(status=BuildStatus.PERMANENT_FAILURE, message=message), Circumstances()) == Ending(
        outcome=Outcome.BUILD_FAILED, message=message, exit_status=status, retryable=False
    )


def test_the_pause_grows_up_to_a_cap_and_ends_with_the_attempts() -> None:
    policy = RetryPolicy(attempts_max=5, first_s=2.0, factor=3.0, cap_s=30.0)
    trouble = Ending(outcome=Outcome.INFRASTRUCTURE, retryable=True)
    assert [policy.delay_s(trouble, attempts) for attempts in range(1, 7)] == [2.0, 6.0, 18.0, 30.0, None, None]


@pytest.mark.parametrize("of", [one for one in Outcome if one is not Outcome.INFRASTRUCTURE])
def test_only_our_own_trouble_is_tried_again(of: Outcome) -> None:
    assert RetryPolicy().delay_s(Ending(outcome=of, retryable=True), 1) is None


def test_trouble_that_cannot_pass_is_not_tried_again() -> None:
    ending = classify(Trouble(message="no permission", retryable=False), Circumstances())
    assert ending.outcome is Outcome.INFRASTRUCTURE
    assert RetryPolicy().delay_s(ending, 1) is None


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            "builder failed with exit code 1;\n       last 10 log lines:\n       > no\nFor full logs, run 'nix log x'.",
            "builder failed with exit code 1",
        ),
        (
            "Cannot build 'x'.\nReason: builder failed.\nLast 3 log lines:\n> no",
            "Cannot build 'x'.\nReason: builder failed",
        ),
        ("the last 10 lines of prose", "the last 10 lines of prose"),
    ],
)
def test_the_log_that_nix_repeats_in_its_message_is_left_out(message: str, kept: str) -> None:
    result = BuildResult(status=BuildStatus.PERMANENT_FAILURE, message=message)
    assert classify(result, Circumstances()).message == kept
