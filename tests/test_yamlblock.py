"""YAML comes letter by letter as PyYAML writes it."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.document import format_yaml

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text("aÄß„“ ,.()/;!?–’'-:#&*%@`|>{}[]\"~=<0123456789\n\t", max_size=12)
    | st.dates()
    | st.sampled_from(["yes", "No", "null", "~", "1e3", "0x1f", "12:30", "2025-04-22", "=", "<<", "-", "a ", "a  b"])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def by_pyyaml(data: dict[str, Any]) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(data, Dumper=dumper, allow_unicode=True, sort_keys=False, width=10_000)
    return text


@given(st.dictionaries(st.text(max_size=120), _VALUES, max_size=5))
def test_any_data_are_written_as_pyyaml_writes_them(data: dict[str, Any]) -> None:
    assert format_yaml(data) == by_pyyaml(data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": []},
        {"a": {}},
        {"a": [[]], "b": [{}], "c": [{"d": [1]}], "e": [[1, [2]]]},
        {"a": {"b": {"c": [1, {"d": None}]}}},
        {"ja": "Ärztin", "nein": "no", "Zahl": "12", "Punkt": "a.", "Doppelpunkt": "a: b", "Raute": "a #b"},
        {"lang": "Wort " * 400},
        {"k" * 200: 1},
        {1: "eine Zahl als Name"},
    ],
)
def test_odd_shapes_are_written_as_pyyaml_writes_them(data: dict[str, Any]) -> None:
    assert format_yaml(data) == by_pyyaml(data)
