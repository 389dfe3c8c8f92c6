"""JUnit: a run as test results, which build servers show."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.export import Part, demo_keys, parts, problems_of
from synopsis_writer.evaluation.row import Key, Row
from synopsis_writer.evaluation.scored import RunInfo, Scored

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2: Char


def as_junit(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> str:
    """Return the run as JUnit XML: a suite a model and prompt version, a test a row.

    A refused row is a failure with its problems, a failed one an error, one that is not there yet is skipped;
    metrics are properties, the text is the test's output. Characters that XML cannot hold become U+FFFD.
    """
    known, demos = {case.id: case for case in cases}, demo_keys(scored)
    root = Element("testsuites", name=_xml(info.name))
    for part in parts(info, scored):
        root.append(_suite(info, part, known, demos))
    _count(root, root.findall("testsuite/testcase"))
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _suite(info: RunInfo, part: Part, known: Mapping[str, Case], demos: Collection[Key]) -> Element:
    name = f"{part.model} · {part.prompt}"
    suite = Element("testsuite", name=_xml(name), timestamp=_xml(info.created))
    about = {"model": part.model, "prompt": part.prompt, "prompt_hash": info.prompts.get(part.prompt, "")}
    _properties(suite, about | {"version": info.version})
    for each in part.scored:
        row = each.row
        test = _test(suite, row.key, known, row.seconds)
        scores = {key: "unscored" if value is None else value for key, value in each.scores.items()}
        _properties(test, {"is_demo": str(row.key in demos).lower()} | scores)
        _verdict(test, row)
        if row.synopsis is not None:
            SubElement(test, "system-out").text = _xml(f"{row.synopsis.title}\n\n{row.synopsis.text}")
    for key in part.missing:
        test = _test(suite, key, known, 0.0)
        SubElement(test, "skipped", message="this row is not there yet: the run is incomplete")
    _count(suite, suite.findall("testcase"))
    return suite


def _test(suite: Element, key: Key, known: Mapping[str, Case], seconds: float) -> Element:
    # Some readers know a test by class and name alone, so the class holds the suite's name.
    form = f" · {known[key.case].brief.form}" if key.case in known else ""
    kind = f"{key.model} · {key.prompt}{form}"
    name = f"{key.case}[{key.repeat}]"
    return SubElement(suite, "testcase", classname=_xml(kind), name=_xml(name), time=f"{seconds:.3f}")


def _properties(element: Element, values: Mapping[str, Any]) -> None:
    properties = SubElement(element, "properties")
    for name, value in values.items():
        SubElement(properties, "property", name=_xml(name), value=_xml(str(value)))


def _verdict(test: Element, row: Row) -> None:
    if row.outcome == "failed":
        SubElement(test, "error", type="failed", message=_xml(row.error or "")).text = _xml(row.error or "")
    elif row.outcome == "refused":
        problems = problems_of(row)
        failure = SubElement(test, "failure", type="refused", message=_xml("; ".join(problems)))
        failure.text = _xml("\n".join(problems))


def _count(element: Element, tests: Sequence[Element]) -> None:
    element.set("tests", str(len(tests)))
    for counted, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(counted, str(sum(test.find(kind) is not None for test in tests)))
    element.set("time", f"{sum(float(test.attrib['time']) for test in tests):.3f}")


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
