"""A report as JUnit XML, for programs that show test results.

Source: the format that Jenkins and GitLab read (`testsuites`, `testsuite`, `testcase` with `failure`, `error` or
`skipped`). XML 1.0 cannot hold most control characters, escaped or not: they become U+FFFD.
"""

import re
from typing import Final
from xml.etree import ElementTree as ET

from nixmill.core.outcome import Outcome
from nixmill.core.report import RunReport
from nixmill.core.report_parts import AttributeReport, CauseReport, ErrorReport
from nixmill.core.status import Status, of_outcome
from nixmill.core.terminal_text import sanitise
from nixmill.nix.store_path import StorePath

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_ELEMENT: Final[dict[Status, str]] = {
    Status.FAILED: "failure",
    Status.DEPENDENCY_FAILED: "failure",
    Status.TROUBLE: "error",
    Status.CANCELLED: "skipped",
}


def junit(report: RunReport) -> str:
    """Return the report as an XML document: a test case for each attribute and each evaluation error."""
    cases = [*map(_error_case, report.errors)]
    causes = {cause.drv_path: cause for cause in report.root_causes}
    cases += [_case(attribute, causes) for attribute in report.attributes]
    tags = [child.tag for case in cases for child in case]
    numbers = {
        "tests": str(len(cases)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
        "time": _seconds(report.seconds),
    }
    suites = ET.Element("testsuites", {"name": "nixmill", **numbers})
    suite = ET.SubElement(suites, "testsuite", {"name": _clean(report.project or "nixmill"), **numbers})
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = _clean(report.sentence)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _error_case(error: ErrorReport) -> ET.Element:
    case = ET.Element("testcase", {"name": _clean(error.attribute), "classname": "evaluation", "time": "0.000"})
    text = "\n".join(part for part in (error.message, error.position) if part)
    ET.SubElement(case, "error", {"type": error.fault, "message": _clean(_first(error.message))}).text = _clean(text)
    return case


def _case(attribute: AttributeReport, causes: dict[StorePath, CauseReport]) -> ET.Element:
    attributes = {
        "name": _clean(attribute.attribute),
        "classname": _clean(attribute.system),
        "time": _seconds(attribute.seconds),
    }
    case = ET.Element("testcase", attributes)
    if attribute.outcome is None:
        ET.SubElement(case, "skipped", {"message": "the run ended before it"})
    elif attribute.outcome is not Outcome.SUCCEEDED:
        cause = causes.get(attribute.culprit or attribute.drv_path)
        element = _ELEMENT[of_outcome(attribute.outcome)]
        said = {"type": attribute.outcome, "message": _clean(_message(attribute, cause))}
        ET.SubElement(case, element, said).text = _clean(_text(attribute, cause))
    return case


def _message(attribute: AttributeReport, cause: CauseReport | None) -> str:
    if cause is not None and attribute.culprit is not None:
        return f"{cause.name}: {cause.outcome}"
    return attribute.how or str(attribute.outcome)


def _text(attribute: AttributeReport, cause: CauseReport | None) -> str:
    """Return what a person needs to see: the derivation at fault, Nix's words and the end of the log."""
    attempt = cause.attempt if cause else None
    lines: list[str] = [cause.drv_path if cause else attribute.drv_path]
    if attempt is not None:
        lines += [attempt.message, *(sanitise(line, colour=False) for line in attempt.tail)]
        lines += [f"log: {attempt.log}"] if attempt.log else []
    return "\n".join(line for line in lines if line)


def _first(text: str) -> str:
    return text.strip().split("\n", 1)[0]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
