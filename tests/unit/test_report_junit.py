from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.outcome import Outcome
from nixmill.core.report import ReportBuilder
from nixmill.core.report_junit import junit
from nixmill.core.run_event import RunEvent, Verdict
from tests.support.run_events import drv, ended, erred, found, settled, started, work_ended, work_started


def document(*events: RunEvent) -> ET.Element:
    builder = ReportBuilder()
    for event in events:
        builder.handle(event)
    return ET.fromstring(junit(builder.report(seconds=1.5)).encode())  # noqa: S314 (we wrote it)


def whole() -> ET.Element:
    return document(
        started(),
        erred("bad", "it is <broken>\nbadly", position="a.nix:1:2"),
        settled("good"),
        work_started(1, "lib"),
        work_ended(
            1, "lib", Outcome.BUILD_FAILED, message="builder failed", tail=("\x1b[31mred\x1b[0m & bold", "\x00\x08nul")
        ),
        settled("victim", outcome=Outcome.DEPENDENCY_FAILED, how="", culprit=drv("lib")),
        settled("trouble", outcome=Outcome.INFRASTRUCTURE, how="connection lost"),
        settled("stopped", outcome=Outcome.CANCELLED),
        found("unfinished"),
        ended(Verdict.BUILD_FAILED, "Failed."),
    )


def test_counts_say_what_the_cases_are() -> None:
    suites = whole()
    (suite,) = suites
    assert suites.tag == "testsuites"
    for element in (suites, suite):
        counts = [element.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert counts == ["6", "1", "2", "2"]
    assert suite.get("name") == "demo"
    assert suite.findtext("system-out") == "Failed."


def test_a_failure_names_its_culprit_and_ends_with_its_log_without_control_characters() -> None:
    failure = whole().find(".//testcase[@name='victim']/failure")
    assert failure is not None
    assert failure.get("message") == "lib: build failed"
    assert failure.text == f"{drv('lib')}\nbuilder failed\nred & bold\nnul\nlog: /logs/1.zst"


def test_an_evaluation_error_is_a_case_of_its_own() -> None:
    error = whole().find(".//testcase[@name='bad']/error")
    assert error is not None
    assert (error.get("type"), error.get("message")) == ("throw", "it is <broken>")
    assert error.text == "it is <broken>\nbadly\na.nix:1:2"


def test_a_good_attribute_is_an_empty_case() -> None:
    case = whole().find(".//testcase[@name='good']")
    assert case is not None
    assert len(case) == 0
    assert (case.get("classname"), case.get("time")) == ("x86_64-linux", "12.000")


@given(st.text(), st.text())
def test_any_name_and_any_text_make_valid_xml(name: str, text: str) -> None:
    suites = document(
        settled((name,), outcome=Outcome.BUILD_FAILED, how=text),
        work_ended(1, "lib", Outcome.BUILD_FAILED, message=text, tail=(text,)),
        settled("victim", outcome=Outcome.DEPENDENCY_FAILED, culprit=drv("lib")),
        ended(Verdict.BUILD_FAILED, text),
    )
    assert suites.get("tests") is not None
