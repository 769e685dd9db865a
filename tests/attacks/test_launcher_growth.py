# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may define a guest makes its XML large, and of whatever is slow to look through: hooks/qemu runs at each event.

What is compared are two sizes, and the processor time that all processes took together: neither depends on how fast
the machine is, or how busy. Each shell that may be /bin/sh has its own ways to be slow.
"""

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import NIC
from growth import grows_with
from launcher import OPERATIONS, SHELLS, VETOES, WITH_DEVICE, WITHOUT, Launcher, installed
from scenario import Host, guest

from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic

ASKED = ("prepare", "start", "started", "release", "reconnect")
"""Operations at which Python may have something to do."""
_LARGE = 50_000_000
TITLE = b"a" * 3_000_000
OTHER = "11111111-2222-3333-4444-555555555555"
HOSTILE = (
    b"  <hostde><hostdev<hostdev\ttype='hostde' type='hostde type=\"nvme' type='nvm\n"
    b"<uuid><uuid></uuid</uuid<<<<<<\\\\\\%s$$``**??[[" + "é€".encode() + b"\x01\x7f\x81\x88\xff\n\n\n"
)
"""What nearly is what the launcher looks for, or is special to some shell."""


@pytest.fixture(params=SHELLS)
def launcher(root: str, request: pytest.FixtureRequest) -> Launcher:
    """Give one whose Python says what it was given, and whose processes may write to pipes alone."""
    made = installed(root, request)
    made.python.write_text("#!/bin/sh\nexec cat >&2\n")
    return made


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # a text with passwords in it is in no file, not for a moment


def event(launcher: Launcher, operation: str, xml: bytes, *, refused: bool = False) -> tuple[bytes, float]:
    """What reached Python at this event, and the seconds that it cost."""
    command = [str(launcher.path), "win11", operation, "begin", "-"]
    environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LIBHOOK_ROOT": launcher.root}
    before = _used()
    done = subprocess.run(
        command, input=xml, capture_output=True, env=environment, preexec_fn=_limits, timeout=600, check=False
    )
    seconds = _used() - before
    assert (done.returncode, done.stdout) == (refused, b"")
    return done.stderr, seconds


def _used() -> float:
    """By all children so far that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def before_uuid(size: int) -> bytes:
    """The guest's name is so long, and a comment that somebody else than libvirt wrote."""
    comment = b"<!--" + HOSTILE * (size // 2 // len(HOSTILE)) + b"-->"
    return WITH_DEVICE.replace(b"<name>win11", b"<name>" + b"a" * (size // 2)).replace(b"<uuid>", comment + b"<uuid>")


def after_uuid(size: int) -> bytes:
    """What the guest's author may write freely is so long; it has no device."""
    return WITHOUT.replace(b"</uuid>\n", b"</uuid>\n" + HOSTILE * (size // len(HOSTILE)))


@pytest.mark.rest
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("text", [before_uuid, after_uuid])
def test_time_grows_with_the_text(launcher: Launcher, operation: str, text: Callable[[int], bytes]) -> None:
    """Wherever in it the length is; Python is given all of it, or is not asked."""
    asked = text is before_uuid and operation in ASKED

    def cost(xml: bytes) -> float:
        said, seconds = event(launcher, operation, xml)
        assert said == (xml if asked else b"")
        return seconds

    grows_with(text, cost, _LARGE)


@pytest.mark.rest
def test_time_grows_with_what_a_broken_python_says(launcher: Launcher) -> None:
    """Its last line is the reason, if that is short; it may quote the guest's XML."""
    launcher.python.write_text("#!/bin/sh\ncat >&2\nexit 1\n")

    def cost(xml: bytes) -> float:
        said, seconds = event(launcher, "prepare", xml, refused=True)
        assert said.startswith(b"libhook itself does not run (python3 ended with status 1): ")
        assert said.count(b"\n") == 1
        return seconds

    grows_with(lambda size: WITH_DEVICE + b"\n" + b"a" * size, cost, _LARGE)


def test_an_entry_is_found_whatever_the_name(launcher: Launcher) -> None:
    """Python is asked about a guest that has one, also where its name is so long that little else is looked at."""
    _has_an_entry(launcher, Guest().uuid)
    for length in (1, 255, *range(390, 470), 100_000):
        xml = WITHOUT.replace(b"<name>win11", b"<name>" + b"&quot;" * (length // 6) + b"a" * (length % 6))
        assert event(launcher, "reconnect", xml)[0] == xml


def test_no_name_is_taken_for_a_uuid(launcher: Launcher) -> None:
    """What libvirt escapes, or passes on as it is, is text."""
    _has_an_entry(launcher, OTHER)
    for name in (
        f"&lt;uuid&gt;{OTHER}&lt;/uuid&gt;",
        f"{OTHER}&lt;/uuid&gt;",
        f"uuid&gt;{OTHER}",
        "a\n  uuid",
        "*",
        "\\c",
    ):
        xml = WITHOUT.replace(b"win11", name.encode())
        assert event(launcher, "reconnect", xml)[0] == b""


UUID = Guest().uuid.encode()
OTHERS_TEXTS = {
    "another in a comment": WITHOUT.replace(b"  <uuid>", f"<!-- <uuid>{OTHER}</uuid> --><uuid>".encode()),
    "another before": WITHOUT.replace(b"  <name>", f"<metadata><uuid>{OTHER}</uuid></metadata><name>".encode()),
    "no uuid": WITHOUT.replace(b"<uuid>" + UUID + b"</uuid>", b""),
    "it is not closed": WITHOUT.replace(b"</uuid>", b""),
    "it is not opened": WITHOUT.replace(b"<uuid>", b""),
    "in capitals": WITHOUT.replace(UUID, UUID.upper()),
    "with blanks": WITHOUT.replace(UUID, b" " + UUID + b"\n"),
    "a path": WITHOUT.replace(UUID, b"../domains/" + UUID),
    "it is far away": WITHOUT.replace(b"<uuid>", b" " * 1000 + b"<uuid>"),
    "no XML": b"hello",
}


@pytest.mark.parametrize("text", OTHERS_TEXTS)
def test_whoever_s_text_it_is_python_reads_it(launcher: Launcher, text: str) -> None:
    """Where libvirt would have written it in another way."""
    xml = OTHERS_TEXTS[text]
    for operation in ASKED:
        assert event(launcher, operation, xml)[0] == xml.rstrip(b"\n") + b"\n"


@pytest.mark.parametrize("change", [lambda xml: xml.replace(b"'", b'"'), lambda xml: xml.replace(b"\n", b"")])
def test_double_quotes_or_one_line_are_libvirt_s_text(launcher: Launcher, change: Callable[[bytes], bytes]) -> None:
    """As people and other tools write it: a guest without devices starts no Python, one that has some does."""
    assert event(launcher, "prepare", change(WITHOUT))[0] == b""
    given = change(WITH_DEVICE).rstrip(b"\n") + b"\n"
    assert event(launcher, "prepare", given)[0] == given
    _has_an_entry(launcher, Guest().uuid)
    given = change(WITHOUT).rstrip(b"\n") + b"\n"
    assert event(launcher, "reconnect", given)[0] == given


@pytest.mark.rest
@pytest.mark.parametrize("shell", SHELLS)
def test_a_large_text_is_acted_on(root: str, shell: str) -> None:
    """3 MB of a title: the device is handed over, recorded and given back."""
    host = Host(root, nic(), launcher=True)
    run = host.launching
    host.launching = lambda command, xml, environment: run([*shell.split(), *command], xml, environment)
    for operation in ("prepare", "start", "started", "release"):
        xml = guest(NIC).xml(-1 if operation == "release" else 1, operation != "prepare")
        outcome = host.event(
            guest(NIC), operation, xml=xml.replace(b"</uuid>", b"</uuid><title>" + TITLE + b"</title>")
        )
        assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", ())
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.rest
@pytest.mark.parametrize("xml", [WITH_DEVICE, WITHOUT], ids=["a device", "none"])
@pytest.mark.parametrize("operation", ["prepare", "start", "started", "release", "reconnect"])
def test_the_whole_hook_grows_with_the_text(root: str, xml: bytes, operation: str) -> None:
    """More than any document of libvirt's is refused where that is possible: only so much of it is read by Python."""
    host = Host(root, nic(), launcher=True)
    refused = operation in VETOES and xml is WITH_DEVICE

    def cost(text: bytes) -> float:
        before = _used()
        outcome = host.event(guest(NIC), operation, xml=text)
        seconds = _used() - before
        assert (outcome.code, outcome.stdout) == (refused, "")
        assert outcome.stderr == (("the XML has more than 16 MiB, line 1",) if refused else ())
        return seconds

    grows_with(
        lambda size: xml.replace(b"</uuid>\n", b"</uuid>\n" + b"<!-- x -->\n" * (size // 11)),
        cost,
        51_000_000,
        17_000_000,
    )


def _has_an_entry(launcher: Launcher, uuid: str) -> None:
    folder = Path(launcher.root, "run/libhook/domains")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{uuid}.json").write_text("{}")
