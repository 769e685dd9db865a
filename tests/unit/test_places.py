# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a key stands in a document: every key that tomllib finds is found, in a line that holds it."""

import json
import tomllib
from collections.abc import Iterator

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.facts import places

_NAMES = (
    "a",
    "b-1",
    "_x",
    "7",
    "win 11",
    "a.b",
    'say "hi"',
    "it's",
    "ü",
    "t\tb",
    "",
    "x=y",
    "[z]",
    "#no",
    "\\u",
    "\u202e",
)
_DECOYS = ("decoy = 1", "[decoy]", "# decoy", "{decoy = 2}", "decoy", "it's \\\"decoy", "")
Path = tuple[str | int, ...]


def spellings(name: str) -> list[str]:
    """Every way in which the documents below write a key."""
    bare = [name] if name and name.isascii() and name.replace("_", "a").replace("-", "a").isalnum() else []
    literal = [f"'{name}'"] if "'" not in name else []
    escaped = "".join(f"\\U{ord(c):08x}" if c.isalpha() else json.dumps(c)[1:-1] for c in name)
    return [*bare, *literal, json.dumps(name, ensure_ascii=False), f'"{escaped}"']


_keys = st.lists(st.sampled_from(_NAMES).flatmap(lambda name: st.sampled_from(spellings(name))), min_size=1, max_size=3)
_dotted = st.builds(lambda parts, between: between.join(parts), _keys, st.sampled_from([".", " . ", "\t."]))
_decoy = st.sampled_from(_DECOYS)
_scalars = st.one_of(
    st.sampled_from(["1", "-0.5", "inf", "true", "1979-05-27 07:32:00", "0xff", "''", '""']),
    _decoy.map(json.dumps),
    _decoy.map(lambda text: f"'{text}'").filter(lambda text: "it's" not in text),
    _decoy.map(lambda text: f'"""\n{text}\n""{text}\\\n  """""'),
    _decoy.map(lambda text: f"'''{text}\n''{text}'''"),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(inner, max_size=3).map(lambda items: "[ # decoy ]\n" + ", # decoy\n\n".join(items) + "\n]"),
        st.lists(st.builds("{} = {}".format, _dotted, inner), max_size=3).map(
            lambda items: f"{{ {', '.join(items)} }}"
        ),
    ),
    max_leaves=8,
)
_statements = st.one_of(
    st.builds("{}={}".format, _dotted, _values),
    st.builds("  {} = {} # decoy".format, _dotted, _values),
    st.builds("[{}]".format, _dotted),
    st.builds(" [ {} ] # decoy".format, _dotted),
    st.builds("[[{}]]".format, _dotted),
    st.sampled_from(["", "# decoy = 1", "\t"]),
)


def document(statements: list[str]) -> str:
    """The statements that tomllib accepts one after the other."""
    text = ""
    for statement in statements:
        try:
            tomllib.loads(text + statement + "\n")
        except ValueError:
            continue
        text += statement + "\n"
    return text


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Every key in what tomllib found, with all keys before it."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for key, one in inner:
        yield (*path, key)
        yield from paths(one, (*path, key))


@generated("configuration", st.lists(_statements, max_size=12).map(document), st.sampled_from(["\n", "\r\n"]))
def test_every_key_that_tomllib_finds_is_found_in_a_line_that_holds_it(text: str, end: str) -> None:
    """Whatever stands before it: texts and comments that look like keys, lists over many lines, tables in tables."""
    written = text.replace("\n", end)
    found, lines = places.lines(written), text.split("\n")
    wanted = set(paths(tomllib.loads(written)))
    assert set(found) == wanted
    for path in wanted:
        line, key = lines[found[path] - 1], path[-1]
        assert any(one in line for one in spellings(key)) if isinstance(key, str) else line.strip()


@generated("configuration", st.text())
def test_any_text_has_places_or_none(text: str) -> None:
    """Nothing is raised: tomllib says what is wrong."""
    places.every(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\na = 2\n", [("a",), ("a",)]),
        ("[d.w]\nx = 1\n[d.w]\n", [("d",), ("d", "w"), ("d", "w", "x"), ("d",), ("d", "w")]),
        ("a = 1\nb = 'x\nc = 3\n", [("a",), ("b",)]),
        ("a = " + "[" * 5000, [("a",)]),
        ('"\\UFFFFFFFF" = 1\n', []),
    ],
)
def test_a_broken_document_is_read_as_far_as_it_goes(text: str, expected: list[Path]) -> None:
    """As often as a key is written; after what is no TOML, nothing is guessed."""
    found = [place.keys for place in places.every(text)]
    assert found[: len(expected)] == expected
    assert {key for path in found for key in path if isinstance(key, str)} == {key for path in expected for key in path}


def test_tables_of_one_name_are_counted() -> None:
    """As tomllib counts them; what is below one of them belongs to the last."""
    text = "[[a]]\nx = 1\n[[a]]\nx = 2\n[a.b]\ny = 3\n[[a.c]]\nz = 4\n"
    assert set(places.lines(text)) == set(paths(tomllib.loads(text)))
    assert places.lines(text)["a", 1, "c", 0, "z"] == 8
    assert places.lines(text)["a", 1, "x"] == 4
