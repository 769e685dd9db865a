# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others: what befalls one is told of that one, and is no other's fault."""

from pathlib import Path
from unittest import mock

import overdue
import pytest
from cases import NIC
from command import libhook
from own import WANTS, code, enabled, host, patient, put, swappiness
from scenario import guest
from test_run import LIGHT

from libhook.errors import KERNEL_LOG
from libhook.look import ownhandlers
from libhook.look.ownhandlers import Code
from libhook.simulation import commands

WIN11 = guest(NIC)
SETS = code('return {"settings": {"values": {"vm.swappiness": 10}}}')
TWO = f"{WANTS}[domains.win11.handlers.other]\n"


@pytest.mark.parametrize("name", ["night.py", "night/__init__.py", "night/hours.py"])
def test_what_is_written_while_it_is_read_is_not_run(root: str, name: str) -> None:
    """In place, after the file was judged: the text is another than the stamp's."""
    own = host(root)
    file = Path(f"{root}/etc/libhook/handlers/{name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.parent.name == "night":
        (file.parent / "hours.py").write_text("HOUR = 10\n")
        (file.parent / "__init__.py").write_text(SETS)
    else:
        put(own, SETS)
    assert libhook(own, "handlers", "enable", "night").code == 0
    judge = ownhandlers._expect_roots

    def judge_and_write(status: object, path: str) -> None:
        judge(status, path)  # type: ignore[arg-type]
        if path.endswith(name):
            file.write_text(file.read_text().replace("10", "99"))

    with mock.patch("libhook.look.ownhandlers._expect_roots", judge_and_write):
        line = own.event(WIN11, "prepare").line
    assert line == f"handler night: /etc/libhook/handlers/{name} was written to while it was read: try again"
    assert swappiness(own) == "60"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error"), ("Input/output error", KERNEL_LOG)),
        (ValueError("x"), ("libhook itself failed: ValueError: x", "report it")),
    ],
)
def test_one_that_cannot_be_read_drops_no_others_refusal(root: str, error: Exception, said: tuple[str, str]) -> None:
    """And is not named as the other's fault."""
    own = host(root, TWO)
    enabled(own, SETS)
    enabled(own, code('return {"refuse": "no"}'), "other")
    read = ownhandlers.read

    def fail(machine: object, name: str) -> Code:
        if name == "night":
            raise error
        return read(machine, name)  # type: ignore[arg-type]

    with mock.patch("libhook.look.ownhandlers.read", fail):
        line = own.event(WIN11, "prepare").line
    reason, remedy = said
    each = "libhook plan win11 says what to do about each; about the first"
    assert line == f"handler night: {reason}; handler other: no: {each}: {remedy}"


def test_the_time_that_others_used_is_not_the_handlers(root: str) -> None:
    """It has what it would have at once."""
    own = host(root)
    enabled(own, SETS)
    with mock.patch("libhook.story.taking.expect_given_back", side_effect=lambda *_: overdue.when(lambda: True)):
        assert own.event(WIN11, "prepare").stderr == ()
    assert swappiness(own) == "10"


def test_where_a_start_fails_for_what_was_set_the_handler_is_named(root: str) -> None:
    """The settings do not have it, so nobody would find it there."""
    own = host(root)
    enabled(own, code('return {"settings": {"values": {"vm.missing": 1}}}'))
    outcome = own.event(WIN11, "prepare")
    assert " (handler night sets values): " in outcome.line
    assert "warning: handler night sets values" in outcome.plan
    own.event(WIN11, "release", "failed")
    run = {"one": {"command": [LIGHT], "at": "start", "undo": [LIGHT]}}
    commands.add(root, LIGHT)
    enabled(own, code(f'return {{"settings": {{"values": {{"vm.swappiness": 1}}, "run": {run}}}}}'))
    assert own.event(WIN11, "prepare").code == 0
    Path(f"{root}{LIGHT}").unlink()
    assert " (handler night sets values, run): " in own.event(WIN11, "start").line


def test_a_wrong_entry_of_the_index_is_that_handlers_alone(root: str) -> None:
    """It is not enabled then, and all else goes on."""
    own = host(root, TWO)
    enabled(own, SETS)
    enabled(own, code("return None"), "other")
    index = Path(f"{root}/etc/libhook/handlers.json")
    first, night, other, last = index.read_text().splitlines()
    said = "handler other: it is not enabled: run: libhook handlers enable other"
    no_module, no_api = other.replace('"libhook.handler"', '"tomorrow"'), other.replace('"api": 1', '"api": 2')
    for wrong in (no_module, no_api, '"other": 5'):
        index.write_text("\n".join((first, night, wrong, last)))
        assert own.event(WIN11, "prepare").line == said
        own.event(WIN11, "release", "failed")
        assert [row.split()[:2] for row in libhook(own, "handlers").out.splitlines()] == [
            ["night", "enabled"],
            ["other", "not"],
        ]
        assert libhook(own, "handlers", "disable", "other").code == 0
        assert libhook(own, "handlers", "enable", "other").code == 0
    assert own.event(WIN11, "prepare").code == 0


def test_nobody_looks_at_the_host_for_one_that_is_not_asked(root: str) -> None:
    """The handler is for the guest's end."""
    own = host(root)
    enabled(own, code('return {"warn": ["x"]}', '"release",'))
    with mock.patch("libhook.story.consult._devices", side_effect=AssertionError):
        assert own.event(WIN11, "prepare").code == 0
    assert "warning: handler night: x" in own.event(WIN11, "release", "shutdown").plan
    own.configure(TWO)
    assert own.event(WIN11, "prepare").line == (
        "handler other: it is not enabled, and there is no /etc/libhook/handlers/other.py: "
        "put the handler there, then run: libhook handlers enable other"
    )


def test_functools_alone_has_what_it_imports_when_it_is_used(root: str, tmp_path: Path) -> None:
    """Where no other module of the handler has imported that, and the hook is a process of its own."""
    own = host(root, launcher=True)
    patient(own, tmp_path)
    text = 'assert functools.singledispatch(len)("ab") == 2\nreturn {"refuse": "it works"}'
    enabled(own, f"import functools\n{code(text)}")
    assert (
        own.event(WIN11, "prepare").line == "handler night: it works: it says no more; it is in /etc/libhook/handlers"
    )
