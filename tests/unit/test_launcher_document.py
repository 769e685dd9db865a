# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hooks/qemu reads of a guest's XML without Python: never less than there is."""

import os
import signal
import time
from pathlib import Path

import pytest
from family import Begun, children, descendants, until
from hook_alone import BROKEN, IN_SHELLS, OTHER, UUID, Hook
from launcher import VETOES, WITHOUT


@pytest.fixture(params=IN_SHELLS)
def hook(tmp_path: Path, request: pytest.FixtureRequest) -> Hook:
    """Give a launcher, run by each shell in turn."""
    return Hook(tmp_path, request.param)


def _begun(begin: str) -> bytes:
    return f"{begin}<memory/></domain>\n".encode()


def test_only_the_guest_s_own_uuid_says_that_nothing_is_held(hook: Hook) -> None:
    """It is the first, behind nothing but the name; what an author wrote further on is not believed, nor missed."""
    (hook.entries / f"{UUID}.json").touch()
    one = f"<domain type='kvm'><name>a</name><uuid>{UUID}</uuid>"
    other = one.replace(UUID, OTHER)
    for known in (one, f"{one}<metadata><uuid>{OTHER}</uuid></metadata>"):
        hook.call("reconnect", _begun(known))
        assert hook.runs == 1, known
    for unknown in (other, f"{other}<metadata><uuid>{UUID}</uuid></metadata>"):
        hook.call("reconnect", _begun(unknown))
        assert hook.runs == 0, unknown


@pytest.mark.parametrize(
    "begin",
    [
        "",
        f"<domain type='kvm'><uuid>{OTHER}</uuid><name>a</name>",
        f"<domain type='kvm'><name>a</name><title>t</title><uuid>{OTHER}</uuid>",
        f"<domain type='kvm'><name>{'a' * 600}</name><uuid>{OTHER}</uuid>",
        f"<domain type='kvm'><name>{'a' * 470}</name><uuid>{OTHER}</uuid>",
        "<domain type='kvm'><name>a</name><uuid></uuid>",
        f"<domain type='kvm'><name>a</name><uuid>{OTHER.replace('1', 'G')}</uuid>",
        f"<domain type='kvm'><name>a</name><uuid>../{OTHER}</uuid>",
        f"<domstatus><name>a</name><uuid>{OTHER}</uuid>",
    ],
)
def test_where_the_uuid_is_not_plain_python_looks(hook: Hook, begin: str) -> None:
    """Nobody may take a guest for one without an entry because its text begins otherwise."""
    hook.call("reconnect", _begun(begin))
    assert hook.runs == 1


@pytest.mark.parametrize("operation", ["prepare", "started", "release", "reconnect"])
def test_a_document_that_was_cut_short_may_have_named_devices(hook: Hook, operation: str) -> None:
    """Somebody ends cat: Python is asked, and where that does not run a start is refused."""
    hook.answer(1)
    command = [str(hook.path), "win11", operation, "begin", "-"]
    with Begun(command, hook.environment) as running:
        assert running.stdin
        running.stdin.write(WITHOUT)
        running.stdin.flush()
        until(lambda: children(running.pid))
        time.sleep(0.1)
        os.kill([*descendants(running.pid)][-1], signal.SIGKILL)
        code, _, said = running.go_on()
    refused = operation in VETOES
    assert (code, said.decode()) == ((1, BROKEN.format(1)) if refused else (0, ""))
    assert hook.runs == 1
