# SPDX-License-Identifier: LGPL-2.1-or-later
"""plainjson reads and writes as json does, byte for byte, and errors in the same words."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook import plainjson

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans() | st.none() | st.floats(), inner)
    ),
    max_leaves=20,
)
_pieces = st.lists(
    st.sampled_from(['"', "\\", "u12", "{", "}", "[", "]", ",", ":", "1", "-", ".5", "e3", "0", "true", "null", "NaN"])
    | st.sampled_from(["Infinity", "-Infinity", " ", "\t", "\n", "\r", "\ufeff", "\x00", "\xa0", '"a"', "\ud800", "é"])
)


def _answer(function: Any, value: object) -> tuple[object, ...]:  # noqa: ANN401 - of either module
    """What it returns, as text, since NaN is unlike itself; or what it raises."""
    try:
        return "returned", repr(function(value))
    except (ValueError, TypeError, RecursionError) as error:
        return type(error), str(error) if not isinstance(error, RecursionError) else ""


@generated("state", _values)
def test_values_are_written_and_read_alike(value: object) -> None:
    """Whatever can be written at all, and some that cannot."""
    assert _answer(plainjson.dumps, value) == _answer(json.dumps, value)
    text = json.dumps(value)
    for padded in (text, f" \t\n\r{text}\n "):
        assert _answer(plainjson.loads, padded) == _answer(json.loads, padded)


@generated("state", _pieces.map("".join))
def test_text_is_read_or_refused_alike(text: str) -> None:
    """Of what only looks like JSON the error is the same: kind, words and place."""
    assert _answer(plainjson.loads, text) == _answer(json.loads, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\ufeff{}",
        "{} {}",
        "[1] x",
        "[1]\xa0",
        '{"a": 1, "a": 2}',
        "[NaN, Infinity, -Infinity]",
        "[1,]",
        '{"a": 1,}',
        '"\n"',
        '"\\ud83d\\ude00 \\ud800"',
        "9" * 5000,
        "1e999",
        "-0",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_the_corners_are_read_alike(text: str) -> None:
    """Duplicate keys, numbers without end, what is nested too deep, what comes after the end."""
    assert _answer(plainjson.loads, text) == _answer(json.loads, text)


def test_what_cannot_be_written_is_refused_alike() -> None:
    """A set, one that holds itself, one that is nested too deep, a key that is none."""
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ({1}, [{"a": object()}], circle, deep, {(1, 2): 3}, {"a": b"bytes"}):
        assert _answer(plainjson.dumps, value) == _answer(json.dumps, value)
        assert _answer(plainjson.dumps, value)[0] != "returned"


def test_a_python_without_that_code_has_json_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says the same."""
    monkeypatch.setattr(plainjson, "_scan", None)
    monkeypatch.setattr(plainjson, "_encoder", None)
    assert plainjson.loads(' {"a": [1, 2.5]} ') == {"a": [1, 2.5]}
    assert plainjson.dumps({"a": ("é",)}) == '{"a": ["\\u00e9"]}'


def test_json_is_imported_for_errors_alone() -> None:
    """And where _json is missing, for everything."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2]: sys.modules["_json"] = None
from libhook import plainjson
assert plainjson.loads(plainjson.dumps({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
print("json" in sys.modules)
"""
    top = str(Path(__file__).parents[2])
    for broken, imported in (("", b"False\n"), ("yes", b"True\n")):
        command = [sys.executable, "-I", "-S", "-c", code, top, broken]
        assert subprocess.run(command, capture_output=True, check=True).stdout == imported
