# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hooks/qemu does by itself: when it starts Python, and what it makes of Python's end."""

import os
import signal
from pathlib import Path

import pytest
from family import Begun, until
from hook_alone import BROKEN, IN_SHELLS, OTHER, UNABLE, UUID, Hook
from launcher import OPERATIONS, VETOES, WITH_DEVICE, WITHOUT


@pytest.fixture(params=IN_SHELLS)
def hook(tmp_path: Path, request: pytest.FixtureRequest) -> Hook:
    """Give a launcher, run by each shell in turn."""
    return Hook(tmp_path, request.param)


def _needs_python(operation: str, *, devices: bool, known: bool, dry_run: bool) -> bool:
    if dry_run:
        return True
    match operation:
        case "prepare" | "start" | "started" | "release":
            return devices or known
        case "reconnect":
            return known
        case "stopped" | "migrate" | "restore" | "attach":
            return False
    return True


@pytest.mark.parametrize("dry_run", [None, "", "1"])
@pytest.mark.parametrize("known", [False, True])
def test_python_is_started_where_something_may_be_to_do(hook: Hook, known: bool, dry_run: str | None) -> None:
    """By the operation, the devices in the XML, the guest's journal entry, and whether somebody wants to see a plan."""
    if known:
        (hook.entries / f"{UUID}.json").touch()
    for operation in (*OPERATIONS, "unheard-of"):
        for xml in (WITH_DEVICE, WITHOUT):
            assert hook.call(operation, xml, dry_run) == (0, "")
            needed = _needs_python(operation, devices=xml == WITH_DEVICE, known=known, dry_run=bool(dry_run))
            assert hook.runs == needed, (operation, xml == WITH_DEVICE)


def test_python_is_given_what_libvirt_gave(hook: Hook) -> None:
    """Isolated from the environment; where the package is, no lock, who called, and the four words."""
    assert hook.call("prepare") == (0, "")
    isolated, no_site, _, bootstrap, *words = hook.read("words").decode().split("\0")[:-1]
    assert (isolated, no_site) == ("-I", "-S")
    first, second, _ = bootstrap.splitlines()
    assert first == "import sys; sys.path.insert(0, sys.argv.pop(1)); from libhook import bundle; bundle.use()"
    assert second == "from libhook.children.version import hold; hold() or sys.exit(4)"
    assert words == [str(hook.lib), "", str(os.getpid()), "win11", "prepare", "begin", "-"]
    assert hook.read("document").rstrip() == WITH_DEVICE.rstrip()


@pytest.mark.parametrize(
    "element",
    [
        "<hostdev mode='subsystem' type='usb'/>",
        "<interface type='hostdev'/>",
        '<interface type="hostdev"/>',
        "<disk device='disk' type='nvme'/>",
        '<disk device="disk" type="nvme"/>',
    ],
)
def test_each_kind_of_host_device_keeps_a_guest_from_starting_without_us(hook: Hook, element: str) -> None:
    """Where Python does not run, whoever has none of them starts all the same."""
    hook.answer(1)
    for operation in VETOES:
        assert hook.call(operation, WITHOUT.replace(b"</devices>", f"{element}</devices>".encode()))[0] == 1
        (hook.entries / f"{UUID}.json").touch()
        assert hook.call(operation, WITHOUT) == (0, "")


@pytest.mark.parametrize("value", ["vfio-pci,host=01:00.0", "usb-host,hostbus=1", "scsi-generic", "nvme://x"])
def test_what_qemu_s_own_arguments_hand_over_is_seen(hook: Hook, value: str) -> None:
    """By Python, which warns of it; any other argument costs nothing, nor does the word elsewhere."""
    argument = "<qemu:commandline><qemu:arg value='{}'/></qemu:commandline></domain>"
    for operation in ("prepare", "reconnect"):
        hook.call(operation, WITHOUT.replace(b"</domain>", argument.format(value).encode()))
        assert hook.runs == 1
        hook.call(operation, WITHOUT.replace(b"</domain>", argument.format("-rtc").encode()))
        hook.call(operation, WITHOUT.replace(b"</domain>", f"<title>{value}</title></domain>".encode()))
        assert hook.runs == 0


@pytest.mark.parametrize(
    ("status", "said", "answer"),
    [
        (3, "no: it is in use", "no: it is in use\n"),
        (2, "", UNABLE),
        (254, "", UNABLE),
        (2, "sh: Cannot fork", "sh: Cannot fork\n"),
        (1, "", BROKEN.format(1)),
        (1, "Traceback:\n  File x\nKeyError: 'a'", BROKEN.format("1, KeyError: 'a'")),
        (1, "Traceback:\n/*", BROKEN.format("1, /*")),
        (1, f"Traceback:\n{'x' * 500}", BROKEN.format(f"1, {'x' * 500}")),
        (1, f"Traceback:\n{'x' * 501}", BROKEN.format(1)),
        (1, "Traceback:\nKeyError: 'h\u00e9'", BROKEN.format(1)),
        (1, "Traceback:\nKeyError: '\x1b[2J'", BROKEN.format(1)),
        (126, "", BROKEN.format(126)),
        (139, "", BROKEN.format(139)),
    ],
)
def test_only_a_start_is_refused(hook: Hook, status: int, said: str, answer: str) -> None:
    """In one line; whatever runs, ends or is looked at goes on in silence, whatever became of Python."""
    hook.answer(status, said)
    (hook.entries / f"{UUID}.json").touch()
    for operation in (*OPERATIONS, "unheard-of"):
        assert hook.call(operation) == ((1, answer) if operation in VETOES else (0, ""))
        refused = operation in VETOES and status == 3
        assert hook.call(operation, WITHOUT) == ((1, answer) if refused else (0, ""))


def test_what_python_says_when_all_is_well_is_passed_on(hook: Hook) -> None:
    """A dry run's plan, at any operation."""
    hook.answer(0, "one\ntwo")
    for operation in OPERATIONS:
        assert hook.call(operation, dry_run="1") == (0, "one\ntwo\n")


@pytest.mark.parametrize(("operation", "status"), [("prepare", 1), ("started", 0), ("release", 0)])
def test_an_upgrade_in_between_is_tried_again(hook: Hook, operation: str, status: int) -> None:
    """The version that we name is gone: whichever hook is there then has the same words and document, four times."""
    hook.answer(4)
    said = BROKEN.format(4) if status else ""
    assert hook.call(operation) == (status, said)
    assert hook.runs == 5
    hook.answer(4, "", "[ $(wc -l <runs) -lt 3 ] || exit 3")
    assert hook.call(operation) == (status, "\n" if status else "")
    assert hook.runs == 3
    assert hook.read("words").decode().split("\0")[-5:-1] == ["win11", operation, "begin", "-"]
    assert hook.read("document").rstrip() == WITH_DEVICE.rstrip()
    hook.answer(4, "", "[ $(wc -l <runs) -lt 3 ] || exit 0")
    assert hook.call(operation) == (0, "")


def test_without_its_folder_it_is_tried_again(hook: Hook) -> None:
    """Whatever Python said; with the folder, or without a hook to call, once is enough."""
    hook.answer(1)
    assert hook.call("prepare") == (1, BROKEN.format(1))
    assert hook.runs == 1
    hook.answer(4, "", f"chmod -x {hook.path}")
    assert hook.call("prepare") == (1, BROKEN.format(4))
    assert hook.runs == 1
    hook.path.chmod(0o755)
    hook.lib.rmdir()
    hook.answer(1)
    assert hook.call("prepare") == (1, BROKEN.format(1))
    assert hook.runs == 5


@pytest.mark.parametrize("ends", [2, 7, 126])
def test_a_hook_in_our_place_that_cannot_run_ends_no_guest(hook: Hook, ends: int) -> None:
    """A start is refused with a reason; whatever runs goes on."""
    text = hook.path.read_text()
    for operation in OPERATIONS[:3]:
        hook.path.write_text(text)
        put = f'printf "#!/bin/sh\\nexit {ends}\\n" >new; chmod 755 new; mv new {hook.path}'
        hook.answer(4, "", put)
        hook.path.chmod(0o755)
        assert hook.call(operation) == ((1, UNABLE) if operation in VETOES else (0, ""))


@pytest.mark.parametrize("number", ["HUP", "INT", "QUIT", "ALRM", "TERM", "USR1", "USR2"])
def test_a_signal_to_all_of_them_ends_no_guest(hook: Hook, number: str) -> None:
    """Python dies of it; the shell is still there to say 0, or why a start is refused."""
    sent = int(signal.Signals[f"SIG{number}"])
    hook.answer(0, "", "exec sleep 20")
    for operation in ("prepare", "started"):
        command = [str(hook.path), "win11", operation, "begin", "-"]
        with Begun(command, hook.environment, start_new_session=True) as running:
            running.begin_with(WITH_DEVICE)
            until(hook.noted.exists)
            hook.noted.unlink()
            os.killpg(running.pid, sent)
            code, _, said = running.go_on()
        if operation in VETOES:
            told = f"the hook was ended by signal {sent} before it was done: start the guest again\n"
            assert (code, said.decode()) == (1, told)
        else:
            assert (code, said) == (0, b"")


@pytest.mark.parametrize(
    ("listed", "name", "closed"),
    [
        ("+win11", "win11", True),
        (f"+{UUID}", "win11", True),
        ("+a\\ $x ä", "a\\ $x ä", True),
        ("win11", "win11", False),
        ("+other", "win11", False),
        (f"+{OTHER}", "win11", False),
        ("+w*", "win11", False),
    ],
)
def test_a_guest_that_takes_devices_along_is_not_started_by_a_broken_python(
    hook: Hook, listed: str, name: str, closed: bool
) -> None:
    """As one whose XML names them: whatever the age of the list that says so."""
    (hook.entries / f"{UUID}.json").touch()
    hook.serves(listed, age=5000)
    hook.answer(1)
    for operation in ("prepare", "start", "started", "release", "reconnect"):
        code, said = hook.call(operation, WITHOUT, name=name)
        refused = closed and operation in VETOES
        assert (code, said) == ((1, BROKEN.format(1)) if refused else (0, ""))


@pytest.mark.parametrize(
    ("served", "asked"),
    [
        ((), False),
        (("win11",), True),
        (("WIN11", "win", "win110"), False),
        (("linux", "win*"), True),
        (("*11",), True),
        (("*",), True),
        (("w*n",), False),
        ((UUID,), True),
        ((OTHER,), False),
    ],
)
def test_a_guest_without_devices_is_served_where_the_settings_ask_for_something(
    hook: Hook, served: tuple[str, ...], asked: bool
) -> None:
    """By its name, a pattern or its UUID, at prepare alone: from then on it has a journal entry."""
    hook.settings("config.toml", "config.d/10-more.toml")
    hook.serves(*served)
    for operation in OPERATIONS:
        assert hook.call(operation, WITHOUT) == (0, "")
        assert hook.runs == (asked and operation == "prepare"), operation


def test_a_host_without_settings_serves_nobody(hook: Hook) -> None:
    """Whatever stands in a list."""
    hook.serves("*")
    assert hook.call("prepare", WITHOUT) == (0, "")
    assert hook.runs == 0


@pytest.mark.parametrize("newer", ["", "config.toml", "config.d", "config.d/10-more.toml", "none"])
def test_a_list_that_is_older_than_the_settings_is_not_believed(hook: Hook, newer: str) -> None:
    """Older than any file, or than any folder: something was added or removed. Python is asked, and so without one."""
    folder = hook.settings("config.toml", "config.d/10-more.toml")
    if newer != "none":
        hook.serves()
        assert hook.call("prepare", WITHOUT) == (0, "")
        assert hook.runs == 0
        os.utime(folder / newer, None)
    assert hook.call("prepare", WITHOUT) == (0, "")
    assert hook.runs == 1


@pytest.mark.parametrize("name", ["--help", "a b", "$(x)", "*", "[", "\\", "win11\n", "ä", "-n"])
def test_a_guests_name_is_no_pattern(hook: Hook, name: str) -> None:
    """Nor anything else than a name."""
    hook.settings("config.toml")
    hook.serves("win11", "x*")
    assert hook.call("prepare", WITHOUT, name=name) == (0, "")
    assert hook.runs == 0


@pytest.mark.parametrize(("status", "said"), [(0, ""), (1, "Traceback"), (3, "refused: why")])
def test_a_guest_without_devices_is_refused_by_libhook_alone(hook: Hook, status: int, said: str) -> None:
    """A broken Python lets it start."""
    hook.settings("config.toml")
    hook.serves("*")
    hook.answer(status, said)
    assert hook.call("prepare", WITHOUT) == ((1, f"{said}\n") if status == 3 else (0, ""))
