# SPDX-License-Identifier: LGPL-2.1-or-later
"""hooks/qemu as libvirtd runs it: cheap where there is nothing to do, silent on stdout, never in a guest's way."""

import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
from amounts import SAMPLED
from cases import NIC
from family import Begun, environment
from launcher import OPERATIONS, SHELLS, VETOES, WITH_DEVICE, WITHOUT, Launcher, installed
from recorded_guests import calls
from scenario import LAUNCHER, Host, guest, reap

from libhook.simulation import faults
from libhook.simulation.hosts import E1000E
from libhook.simulation.world import Device, World


@pytest.fixture(params=SHELLS)
def launcher(root: str, request: pytest.FixtureRequest) -> Launcher:
    """Give a launcher on a host with one card, run by each shell in turn."""
    return installed(root, request)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_guest_without_devices_never_starts_python(launcher: Launcher, operation: str) -> None:
    """At no operation: that is what such a guest pays for libhook."""
    done = launcher.event(operation, WITHOUT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not launcher.python_ran


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_of_a_guest_with_a_device(launcher: Launcher, operation: str) -> None:
    """All are answered with 0; Python is started only where something may have to be done."""
    if operation == "start":
        launcher.event("prepare", WITH_DEVICE)
        launcher.trace.unlink()
    done = launcher.event(operation, WITH_DEVICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert launcher.python_ran is (operation in ("prepare", "start", "started", "release"))


@pytest.mark.parametrize("operation", ["started", "release", "reconnect"])
def test_state_for_the_guest_starts_python_whatever_the_xml_says(launcher: Launcher, operation: str) -> None:
    """A hot-unplugged device, or a VF out of a pool, is in the journal entry and not in the XML."""
    launcher.event("prepare", WITH_DEVICE)
    launcher.trace.unlink()
    assert launcher.event(operation, WITHOUT).returncode == 0
    assert launcher.python_ran


def test_a_redirected_usb_device_is_no_host_device(launcher: Launcher) -> None:
    """What a client brings along is libvirt's to record, and costs a start nothing."""
    xml = WITHOUT.replace(b"</domain>", b"<devices><redirdev bus='usb' type='spicevmc'/></devices></domain>")
    for operation in OPERATIONS:
        assert launcher.event(operation, xml).returncode == 0
    assert not launcher.python_ran


def test_a_word_in_a_name_or_a_description_is_no_device(launcher: Launcher) -> None:
    """Libvirt escapes text, so only an element looks like one."""
    words = "hostdev &lt;hostdev type='hostde v' nvme &lt;hostdev "
    xml = WITHOUT.replace(b"</uuid>", f"</uuid>\n  <title>{words}</title><description>{words}</description>".encode())
    for operation in OPERATIONS:
        done = launcher.event(operation, xml.replace(b"<name>win11", b"<name>hostdev"))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not launcher.python_ran


def test_an_attribute_in_metadata_costs_time_and_nothing_else(launcher: Launcher) -> None:
    """Metadata is the author's own XML: Python is asked, and finds no device."""
    xml = WITHOUT.replace(b"</uuid>", b"</uuid>\n  <metadata><x:y xmlns:x='urn:x' type='hostdev'/></metadata>")
    for operation in OPERATIONS:
        done = launcher.event(operation, xml)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("operation", ["nonsense", "--help", "", "prepare\n", "PREPARE"])
def test_an_unknown_operation_is_logged_and_exits_0(launcher: Launcher, operation: str) -> None:
    """A libvirt newer than this must not be stopped by it."""
    done = launcher.event(operation, WITH_DEVICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    log = (Path(launcher.root) / "var" / "log" / "libhook.jsonl").read_text()
    assert "unknown operation" in log


@pytest.mark.parametrize("arguments", [(), ("win11",), ("win11", "prepare"), ("a", "prepare", "begin", "-", "more")])
def test_a_wrong_number_of_arguments_is_said_in_one_line(launcher: Launcher, arguments: tuple[str, ...]) -> None:
    """Only where libvirt asked for a veto does it fail: a guest that runs is never harmed."""
    done = launcher.run(*arguments, stdin=WITH_DEVICE)
    assert done.stdout == b""
    assert done.returncode == (1 if "prepare" in arguments else 0)
    if done.returncode:
        assert done.stderr.count(b"\n") == 1
        assert f"{len(arguments)} arguments instead of 4" in done.stderr.decode()


def test_secrets_show_up_nowhere(launcher: Launcher) -> None:
    """What migrate and restore hand over holds passwords: not in the log, not in the state, not on stderr."""
    secret = b"s3cret-passphrase"
    xml = WITH_DEVICE.replace(b"</devices>", b"<graphics type='vnc' passwd='" + secret + b"'/></devices>")
    for operation in ("migrate", "restore"):
        for broken in (xml, xml[:-20], b"\0" + xml):
            for dry_run in (False, True):
                done = launcher.run("win11", operation, "begin", "-", stdin=broken, dry_run=dry_run)
                assert (done.returncode, done.stdout) == (0, b"")
                assert secret not in done.stderr
    for path in Path(launcher.root).rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes()


def test_the_recorded_secret_shows_up_nowhere(launcher: Launcher) -> None:
    """The same with a document that libvirtd really handed over at restore."""
    (restored,) = (xml for arguments, xml in calls() if arguments[1] == "restore")
    assert b"passwd='" in restored
    secret = restored.split(b"passwd='")[1].split(b"'")[0]
    for operation in OPERATIONS:
        done = launcher.run("saved", operation, "begin", "-", stdin=restored, dry_run=True)
        assert secret not in done.stdout + done.stderr
    for path in Path(launcher.root).rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes()


def test_a_caller_that_reads_no_more_ends_nobody(launcher: Launcher) -> None:
    """What is to be said at started goes nowhere, and the guest lives: a signal would be a non-zero exit."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {"PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": launcher.root, "LIBHOOK_DRY_RUN": "1"}
    command = [str(launcher.path), "win11", "started", "begin", "-"]
    done = subprocess.run(command, input=WITH_DEVICE, stderr=writer, env=environment, timeout=600, check=False)
    os.close(writer)
    assert reap(60)
    assert done.returncode == 0
    assert launcher.python_ran


def test_a_closed_stdin_is_an_empty_document(launcher: Launcher) -> None:
    """Which names no device and no guest: prepare cannot tell what is asked, everything else goes on."""
    for operation in OPERATIONS:
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" <&-', "sh", launcher.path, "win11", operation, "begin", "-"],
            capture_output=True,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": launcher.root},
            timeout=200,
            check=False,
        )
        assert done.stdout == b""
        assert done.returncode == (1 if operation in VETOES else 0)
        assert done.stderr.count(b"\n") == (1 if operation in VETOES else 0)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_null_bytes_are_survived(launcher: Launcher, operation: str) -> None:
    """No shell stumbles over them; a document with one is refused where a refusal is possible."""
    for xml in (WITH_DEVICE.replace(b"<devices>", b"\0<devices>"), b"\0" * 1000):
        done = launcher.event(operation, xml)
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == done.returncode
        assert operation in VETOES or done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_session_daemon_is_left_alone(operation: str) -> None:
    """The hook of qemu:///session runs as the user, who can neither bind nor record: exit 0, no word."""
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = subprocess.run(
        [*user, LAUNCHER, "win11", operation, "begin", "-"],
        input=WITH_DEVICE,
        capture_output=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize(
    ("shell", "processes", "operation"),
    [
        (shell, number, operation)
        for shell in ("/bin/dash", "/bin/busybox ash")
        for number in ((1,) if SAMPLED else (1, 2, 3))
        for operation in OPERATIONS
    ]
    # These try for 15 and 31 s; and mksh cannot say why it refuses.
    + [("/bin/bash", 1, "prepare"), ("/bin/bash", 1, "started"), ("/bin/mksh", 1, "started")][3 * SAMPLED :],
)
def test_no_process_is_to_be_had(shell: str, processes: int, operation: str) -> None:
    """The shell itself cannot fork, as where the cgroup is full: a start is refused with the reason, a guest lives."""
    done = subprocess.run(
        [*shell.split(), LAUNCHER, "win11", operation, "begin", "-"],
        input=WITH_DEVICE,
        capture_output=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        user=54321,
        group=54321,
        extra_groups=[],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes)),
        timeout=600,
        check=False,
    )
    assert done.stdout == b""
    if operation not in VETOES:
        assert (done.returncode, done.stderr) == (0, b"")
    elif processes == 1:
        assert done.returncode == 1
        assert done.stderr == (
            b"the hook cannot be started, because no process can be created or /dev/null cannot be opened: "
            b"raise libvirtd's limits (open files, processes, memory), or try again when less runs\n"
        )
    else:  # as a session daemon's it does nothing where it gets so far
        assert done.returncode == bool(done.stderr)


def test_a_dev_null_that_cannot_be_opened_hands_nothing_over(launcher: Launcher) -> None:
    """The document is then not read: nobody may take the guest for one without devices."""
    launcher.path.write_text(launcher.path.read_text().replace("/dev/null", launcher.root))
    for operation in OPERATIONS:
        done = launcher.event(operation, WITH_DEVICE)
        assert done.returncode == (operation in VETOES)
        assert done.stdout == b""
        said = done.stderr.rpartition(b"\n")[0].rpartition(b"\n")[2]  # after what the shell says of it
        assert said.startswith((b"the hook cannot ", b"libhook itself ")) is (operation in VETOES)


@pytest.mark.parametrize("broken", ["", "/dev/null", "python3"])
def test_no_variable_of_the_environment_is_taken_for_one_of_its_own(launcher: Launcher, broken: str) -> None:
    """Whatever libvirtd's environment has of their names, the answer is the same, and so is what is said."""
    if broken:  # where something is wrong, more is said
        launcher.path.write_text(launcher.path.read_text().replace(broken, launcher.root))
    own = set(re.findall(r"\b(?!LIBHOOK_|LC_ALL|PATH|IFS)([A-Za-z_]+)=", LAUNCHER.read_text())) | {"KSH_VERSION"}
    assert {"said", "xml", "refused", "cut", "known", "devices", "uuid", "found"} <= own
    plain = environment(launcher.root)
    strange = dict.fromkeys(own, "strange") | plain
    for operation in OPERATIONS:
        for xml in (WITH_DEVICE, WITHOUT):
            command = [str(launcher.path), "win11", operation, "begin", "-"]
            plainly, strangely = (
                subprocess.run(command, input=xml, capture_output=True, env=one, timeout=600, check=False)
                for one in (plain, strange)
            )
            assert reap(60)
            assert (strangely.returncode, strangely.stdout) == (plainly.returncode, plainly.stdout), operation
            assert strangely.stderr == plainly.stderr


def test_the_path_that_it_is_given_is_not_relied_on(launcher: Launcher) -> None:
    """libvirtd passes its own on, whatever that is."""
    elsewhere = environment(launcher.root) | {"PATH": "/opt/bin"}
    command = [str(launcher.path), "win11", "prepare", "begin", "-"]
    done = subprocess.run(command, input=WITH_DEVICE, capture_output=True, env=elsewhere, timeout=600, check=False)
    assert reap(60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nobody_keeps_libvirt_s_pipes_open(root: str) -> None:
    """A driver hangs: the launcher answers at its deadline, and stdout and stderr end there and then."""
    host = Host(root, World((Device(NIC, "e1000e"),), (E1000E,)), "write_deadline = 20\n", launcher=True)
    faults.hold(root, NIC)
    with Begun([LAUNCHER, "win11", "prepare", "begin", "-"], environment(root)) as process:
        code, stdout, stderr = process.go_on(WITH_DEVICE)
    assert (code, stdout) == (1, b"")
    assert stderr.decode().startswith(f"{NIC} hangs")
    assert stderr.count(b"\n") == 1
    faults.let_go(root, NIC)
    assert reap(60)
    host.configure("")  # a busy machine needs more time than that to give it back
    assert host.event(guest(NIC), "release", "failed").code == 0
    assert (host.changed, host.leftovers) == ([], [])
