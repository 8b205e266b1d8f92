"""Results in the JUnit format that CI servers show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from streamd.testing.session import FileResult
from streamd.testing.show import failure_lines


def write_junit(results: Iterable[FileResult], path: Path) -> None:
    """A suite for each file, a case for each case; what keeps a file from being run is an error of its own."""
    root = ET.Element("testsuites", name="streamd test")
    for result in results:
        cases, problems = result.results, result.problems
        failed = sum(1 for case in cases if not case.ok)
        seconds = sum(case.seconds for case in cases)
        suite = ET.SubElement(
            root, "testsuite", name=str(result.path), tests=str(len(cases) + bool(problems)), failures=str(failed),
            errors=str(int(bool(problems))), skipped=str(result.left_out), time=f"{seconds:.3f}",
        )  # fmt: skip
        if problems:
            case_element = ET.SubElement(suite, "testcase", classname=str(result.path), name="file", time="0")
            error = ET.SubElement(case_element, "error", message=problems[0].message)
            error.text = _clean("\n".join(problem.render() for problem in problems))
        for case in cases:
            element = ET.SubElement(
                suite, "testcase", classname=str(result.path), name=case.case.name, time=f"{case.seconds:.3f}"
            )
            if not case.ok and result.file is not None:
                failure = ET.SubElement(element, "failure", message=_clean(case.problems[0].message))
                failure.text = _clean("\n".join(failure_lines(case, result.file.document.source)))
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c if c >= " " or c in "\n\t" else "�" for c in text)
