# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler by others may answer: whatever it is, an Answer or a line."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libhook.errors import BadInput
from libhook.facts import answer, ownhandler
from libhook.facts.answer import Answer
from libhook.facts.config import Config
from libhook.facts.event import ATTACH, OPERATIONS
from libhook.facts.ownhandler import API, Declared, Enabled, Stamp
from libhook.facts.plan import Refusal
from libhook.light import MappingProxyType

NIC = "0000:01:00.0"
KEYS = st.sampled_from((
    "refuse", "remedy", "warn", "settings", "reason", "device", "values", "units", "run", "x", "modules",
    "command", "undo", "at", "vm.swappiness", "a.service", "down", "{name}", NIC,
))  # fmt: skip
TEXTS = KEYS | st.text(max_size=8)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
JSON = st.recursive(
    PLAIN, lambda one: st.lists(one, max_size=4) | st.dictionaries(TEXTS, one, max_size=4), max_leaves=12
)
LIKELY = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=3), max_size=4)
DECLARED = Declared(API, ("prepare",), ("a",), ("b",))
ENABLED = Enabled(DECLARED, ("re",), (Stamp("/etc/x.py", 1, 2, 3, 4),))


@given(value=JSON | LIKELY, operation=st.sampled_from([OPERATIONS["prepare"], OPERATIONS["start"], ATTACH]))
def test_nonsense_is_a_line(value: object, operation: Any) -> None:  # noqa: ANN401 - an Operation
    """No other exception; what is taken is text in lines, and settings that a section may have."""
    try:
        found = answer.read(value, operation, {NIC})
    except BadInput:
        return
    assert all(one.device in ("", NIC) for one in found.refusals)
    lines = [*found.warnings, *(text for one in found.refusals for text in (one.reason, one.remedy))]
    assert all("\n" not in one and len(one) <= 500 for one in lines)
    assert not found.settings or operation.takes


@given(value=JSON | LIKELY)
def test_a_nonsensical_declaration_is_a_line(value: object) -> None:
    """Also in the index."""
    with suppress(BadInput):
        ownhandler.declared_from(value)
    for handlers in (value, {"night": value}):
        with suppress(BadInput):
            ownhandler.read_index(json.dumps({"version": 1, "handlers": handlers}))
    with suppress(BadInput):
        ownhandler.read_index(json.dumps(value))


def test_the_index_is_read_as_it_is_written() -> None:
    """With all of each handler."""
    all_ = {"night": ENABLED, "other": ENABLED._replace(modules=("math",))}
    assert ownhandler.read_index(ownhandler.write_index(all_)) == all_
    assert ownhandler.read_index(ownhandler.write_index({})) == {}


def test_the_index_names_no_module_that_a_handler_may_not_import() -> None:
    """They are imported with all of root's rights. The others stay enabled."""
    for modules in (("os",), ("re", "os"), (1,)):
        wrong = ENABLED._replace(modules=modules)  # type: ignore[arg-type]
        text = ownhandler.write_index({"night": wrong, "other": ENABLED})
        assert ownhandler.read_index(text) == {"other": ENABLED}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Answer()),
        ({}, Answer()),
        ({"refuse": "no"}, Answer((Refusal("", "no", ""),))),
        ({"refuse": "no", "remedy": "go"}, Answer((Refusal("", "no", "go"),))),
        ({"refuse": [{"device": NIC, "reason": "no", "remedy": "x"}]}, Answer((Refusal(NIC, "no", "x"),))),
        ({"warn": ["a", "b"]}, Answer(warnings=("a", "b"))),
        ({"settings": {"values": {"vm.swappiness": 1}}}, Answer(settings={"values": {"vm.swappiness": 1}})),
        ({"settings": {"modules": ["x"]}}, Answer(settings={"modules": ["x"]})),
        ({"settings": {"run": {"a": {"command": ["/bin/x", "{}"], "undo": ["/bin/y"]}}}}, None),
    ],
)
def test_what_is_right_is_taken(value: Any, expected: Answer | None) -> None:  # noqa: ANN401 - JSON
    """A brace of a command is its own."""
    found = answer.read(value, OPERATIONS["prepare"], {NIC})
    assert found == expected or (expected is None and found.settings == value["settings"])


def test_settings_of_a_handler_come_on_top() -> None:
    """Entries replace, items add up, and what was there is not changed."""
    before = {"values": {"a": 1, "b": 2}, "modules": ["x"]}
    config = Config(actions=MappingProxyType(before))
    more = {"values": {"b": 3}, "modules": ["y", "x"], "units": {"a.service": "up"}}
    assert answer.with_settings(config, more).actions == {
        "values": {"a": 1, "b": 3},
        "modules": ["x", "y"],
        "units": {"a.service": "up"},
    }
    assert config.actions == {"values": {"a": 1, "b": 2}, "modules": ["x"]}


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({"values": {"a": 1}}, {"values": {"a": 1, "b": 2}}, ""),
        ({"values": {"a": 1}}, {"values": {"a": 2}}, "settings.values.a"),
        ({"modules": ["a"]}, {"modules": ["b"]}, ""),
        ({"modules": ["a"]}, {}, ""),
    ],
)
def test_a_contradiction_is_seen(one: Any, other: Any, what: str) -> None:  # noqa: ANN401 - JSON
    """One thing, two values."""
    assert answer.contradiction(one, other) == what


def test_the_order_is_that_of_needs_then_of_names() -> None:
    """All that provide a name come before who needs it."""
    all_ = {
        "a": Declared(1, ("prepare",), ("x",)),
        "b": Declared(1, ("prepare",), (), ("x",)),
        "c": Declared(1, ("prepare",)),
        "d": Declared(1, ("prepare",), ("y",), ("x",)),
        "e": Declared(1, ("prepare",), (), ("y",)),
    }
    assert ownhandler.in_order(all_) == ["b", "c", "e", "d", "a"]
    assert ownhandler.providers("a", all_) == ["b", "d"]
    with pytest.raises(BadInput, match="a, b need each other in a circle"):
        ownhandler.in_order({"a": Declared(1, (), ("x",), ("y",)), "b": Declared(1, (), ("y",), ("x",))})


def test_what_is_small_is_bounded() -> None:
    """In depth, in number, in the length of a text, and in the size of a number."""
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    large: tuple[object, ...] = (
        deep,
        list(range(1001)),
        "x" * 4097,
        1 << 63,
        float("inf"),
        float("nan"),
        "\udc80",
        b"x",
        {1, 2},
    )
    assert not any(map(ownhandler.is_small, large))
    assert all(map(ownhandler.is_small, ([[[1]]], "x" * 4096, -(1 << 63), None, True, 1.5, {"a": ["b"]})))
