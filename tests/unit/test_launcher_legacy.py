# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hooks/qemu does where the settings ask something for a guest at each operation."""

import os
import subprocess
from pathlib import Path

import pytest
from hook_alone import IN_SHELLS, OTHER, UUID, Hook
from launcher import OPERATIONS, VETOES, WITHOUT

UNSEEN = ("stopped", "migrate", "restore", "attach")
"""The launcher does not read the XML for these, unless Python is to have it."""
LISTENED = (*VETOES, "migrate", "restore")


@pytest.fixture(params=IN_SHELLS)
def hook(tmp_path: Path, request: pytest.FixtureRequest) -> Hook:
    """Give a launcher on a host with settings, run by each shell in turn."""
    found = Hook(tmp_path, request.param)
    found.settings("config.toml", "config.d/10-more.toml")
    return found


@pytest.mark.parametrize(
    ("served", "asked"),
    [
        ((), ()),
        (("linux", "/win110", "/in11"), ()),
        (("*", "win11"), ("prepare",)),
        (("/win11",), OPERATIONS),
        (("linux", "*", "/w*1"), OPERATIONS),
        (("/*",), OPERATIONS),
        ((f"/{UUID}",), OPERATIONS),
        ((f"/{OTHER}",), UNSEEN),
        ((UUID,), ("prepare",)),
    ],
)
def test_python_is_asked_at_each_operation(hook: Hook, served: tuple[str, ...], asked: tuple[str, ...]) -> None:
    """By name, pattern or UUID. Where the UUID is not looked for, Python finds out which it is."""
    hook.serves(*served)
    for operation in OPERATIONS:
        assert hook.call(operation, WITHOUT) == (0, "")
        assert hook.runs == (operation in asked), operation


@pytest.mark.parametrize("name", ["--help", "a b", "$(x)", "*", "[", "\\", "win11\n", "ä", "-n", "/*", "/win11", ""])
def test_a_guests_name_is_no_pattern(hook: Hook, name: str) -> None:
    """Nor a mark."""
    hook.serves("/win11", "/x*")
    for operation in OPERATIONS:
        assert hook.call(operation, WITHOUT, name=name) == (0, "")
        assert hook.runs == 0


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_list_that_is_older_than_the_settings_is_not_believed(hook: Hook, operation: str) -> None:
    """Nor one that is not there: a saved guest may be the first that is started after a boot."""
    assert hook.call(operation, WITHOUT) == (0, "")
    assert hook.runs == 1
    hook.serves(age=10_000)
    assert hook.call(operation, WITHOUT) == (0, "")
    assert hook.runs == 1


@pytest.mark.parametrize("status", [0, 1, 2, 3, 143, 254])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_who_may_fail(hook: Hook, operation: str, status: int) -> None:
    """A refusal counts where libvirt may be refused something. A broken Python harms no guest without devices."""
    hook.serves("/win11")
    hook.answer(status, "why")
    code, said = hook.call(operation, WITHOUT)
    if status == 3 and operation in LISTENED:
        assert (code, said) == (1, "why\n")
    else:
        assert (code, said.rstrip("\n")) == (0, "" if status else "why")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_a_filter_reaches_stdout(hook: Hook, operation: str, dry_run: bool) -> None:
    """By a descriptor of its own, at migrate and restore. What is printed by mistake goes nowhere."""
    hook.serves("/win11")
    hook.answer(0, "", "{ echo '<domain/>' >&4; } 2>/dev/null")
    own = hook.environment | ({"LIBHOOK_DRY_RUN": "1"} if dry_run else {})
    command = [str(hook.path), "win11", operation, "begin", "-"]
    done = subprocess.run(command, input=WITHOUT, capture_output=True, env=own, timeout=600, check=False)
    expected = b"<domain/>\n" if operation in ("migrate", "restore") else b""
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")


def test_a_closed_stdout(hook: Hook) -> None:
    """Nobody listens: nothing is harmed."""
    hook.serves("/win11")
    for operation in OPERATIONS:
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" >&-', "sh", hook.path, "win11", operation, "begin", "-"],
            input=WITHOUT,
            stderr=subprocess.PIPE,
            env=hook.environment,
            timeout=600,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_host_without_settings_asks_nobody(tmp_path: Path) -> None:
    """Whatever stands in a list."""
    hook = Hook(tmp_path, "/bin/sh")
    os.makedirs(tmp_path / "etc/libhook/config.d")
    hook.serves("/*")
    for operation in OPERATIONS:
        assert hook.call(operation, WITHOUT) == (0, "")
        assert hook.runs == 0
