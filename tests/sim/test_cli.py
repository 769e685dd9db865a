# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ``libhook`` command: text for people, JSON for programs, exit codes."""

import json
import os
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from cases import DISK, GPU, NIC, SOUND, recorded
from command import libhook
from recorded_guests import FOLDER
from scenario import Host, document, guest

from libhook import __version__
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import many, nic, sriov, workstation

COMMANDS = ("inspect", "plan", "devices", "status", "recover", "history", "demo")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*start.-.xml")), ids=lambda path: path.stem)
def test_inspect_json_has_the_promised_shape(root: str, path: Path) -> None:
    """Each key is there, each of its type, for every document that a libvirtd handed over at start."""
    done = libhook(Host(root, nic()), "inspect", "--json", str(path))
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert set(found) == {"name", "uuid", "virt", "host_devices"}
    for device in found["host_devices"]:
        assert set(device) == {"kind", "source", "managed", "address", "ids", "vendor", "model", "record"}
        assert device["kind"] in ("pci", "usb", "scsi", "scsi_host", "mdev")
        assert device["source"] in ("hostdev", "interface", "disk")
        assert isinstance(device["managed"], bool)
        if device["record"] is not None:
            assert device["record"].startswith(f"virt={found['virt']} resrc=dev reason=start vm=")
            assert device["record"].endswith(f'bus={device["kind"]} device="{device["address"]}"')


def test_inspect_text_shows_the_same(root: str) -> None:
    """The guest, then each device and its record."""
    done = libhook(Host(root, nic()), "inspect", "-", stdin=guest(NIC, name="a b").xml())
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f'{Guest().uuid}  kvm  "a b"',
        "KIND  SOURCE   MANAGED  ADDRESS",
        f"pci   hostdev  no       {NIC}  Intel 82574L Gigabit Network Connection [8086:10d3]",
        f'    virt=kvm resrc=dev reason=start vm=612062 uuid={Guest().uuid} bus=pci device="{NIC}"',
    ]


def test_plan_json_is_the_same_plan(root: str) -> None:
    """Its lines are those of the text, its writes those of its lines, and a refusal makes the exit code 1."""
    host = Host(root, workstation())
    xml = guest(NIC, DISK).xml(1)
    text = libhook(host, "plan", "-", stdin=xml)
    found = json.loads(libhook(host, "plan", "--json", "-", stdin=xml).out)
    assert found["refused"] is False
    *lines, last = text.out.splitlines()
    assert [line for action in found["actions"] for line in action["lines"]] == lines
    limits = ", ".join(f"{limit['what']} {limit['seconds']:.0f} s" for limit in found["limits"])
    assert last == f"may take up to {found['seconds']:.0f} s: {limits}"
    for action in found["actions"]:
        writes = [f'  write "{write["value"]}" to {write["path"]}' for write in action.get("writes", ())]
        assert action["lines"][1:] == writes
    refused = libhook(host, "plan", "--json", "-", stdin=guest(GPU).xml(1))
    assert refused.code == 1
    assert json.loads(refused.out)["refused"] is True


@pytest.mark.parametrize("devices", [(GPU,), (NIC, GPU), ("0000:1f:00.0", "0000:1f:00.1", "0000:1f:00.2", NIC, GPU)])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_plan_that_is_refused_says_why_on_stderr(root: str, devices: tuple[str, ...], as_json: bool) -> None:
    """The line that the caller of virsh start would read, alone; on stdout the plan, in JSON with each refusal."""
    host = Host(root, workstation())
    xml = guest(*devices).xml(1)
    done = libhook(host, "plan", "-", *(["--json"] if as_json else []), stdin=xml)
    assert (done.code, done.err) == (1, host.event(guest(*devices), "prepare").line + "\n")
    lines = [line for one in json.loads(done.out)["actions"] for line in one["lines"]] if as_json else []
    refusals = [line for line in lines or done.out.splitlines() if line.startswith("refuse: ")]
    absent = sum(device.startswith("0000:1f") for device in devices)
    assert len(refusals) == len(devices) - (NIC in devices) - (0 if as_json else max(absent - 1, 0))
    if as_json and absent:
        assert "0000:1f:00.0, 0000:1f:00.1 and 0000:1f:00.2 are not on this host" in done.err
    else:
        reason, _, remedy = refusals[0].removeprefix("refuse: ").partition(": ")
        assert done.err.startswith(reason)
        assert done.err.endswith(f": {remedy}\n")


@pytest.mark.parametrize("event", ["prepare", "start", "started", "release", "reconnect"])
def test_plan_answers_for_every_event_that_acts(root: str, event: str) -> None:
    """Also where there is nothing to do, which is said."""
    host = Host(root, nic())
    done = libhook(host, "plan", "--event", event, "-", stdin=guest().xml(1))
    why = "" if event == "prepare" else ": libhook holds nothing for win11"
    assert (done.code, done.out, done.err) == (0, f"nothing to do at {event}{why}\n", "")
    assert json.loads(libhook(host, "plan", "--json", "--event", event, "-", stdin=guest().xml(1)).out) == {
        "refused": False,
        "running": False,
        "seconds": 0,
        "limits": [],
        "actions": [],
        "names": {},
    }


def test_status_and_recover_of_nothing(root: str) -> None:
    """Both say so, and make nothing."""
    host = Host(root, nic())
    before = host.everything()
    for command in (("status",), ("recover",), ("recover", "--dry-run")):
        assert libhook(host, *command) == (0, "nothing is held\n", "")
    assert json.loads(libhook(host, "status", "--json").out) == {"guests": []}
    assert host.everything() == before


def test_status_says_what_is_held_and_what_recover_would_do(root: str) -> None:
    """A guest that runs is left alone, and named with the reason."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC, GPU, SOUND))
    done = libhook(host, "status")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"win11  {Guest().uuid}  started",
        f"  pci {NIC}  e1000e -> vfio-pci",
        f"  pci {GPU}  amdgpu -> vfio-pci",
        f"  pci {SOUND}  snd_hda_intel -> vfio-pci",
        "  recover: leaves it, because libvirt says that the guest win11 runs",
    ]
    (found,) = json.loads(libhook(host, "status", "--json").out)["guests"]
    assert (found["name"], found["phase"], found["recoverable"]) == ("win11", "started", False)
    assert [device["address"] for device in found["devices"]] == [NIC, GPU, SOUND]
    before = host.everything()
    for command in (("recover",), ("recover", "--dry-run")):
        assert libhook(host, *command) == (0, "win11: left alone, because libvirt says that the guest win11 runs\n", "")
    assert {k: v for k, v in host.everything().items() if "/locks" not in k} == {
        k: v for k, v in before.items() if "/locks" not in k
    }


def test_recover_gives_back_what_a_dead_libvirtd_left(root: str) -> None:
    """First foretold with --dry-run, which changes nothing; then done, and recorded; then there is nothing more."""
    host = Host(root, workstation())
    one = guest(NIC, DISK)
    assert host.event(one, "prepare").code == 0
    alive = libhook(host, "recover")
    assert (alive.code, alive.err) == (0, "")
    assert alive.out == (
        f"win11: left alone, because libvirtd (pid {host.libvirt.pid}) is starting the guest win11;"
        " if it is not, restart libvirtd\n"
    )
    host.libvirt.restart()
    before = host.everything()
    foretold = libhook(host, "recover", "--dry-run")
    assert foretold.code == 0
    assert foretold.out.splitlines()[0] == "win11: would be given back"
    assert f"  {NIC}: vfio-pci -> e1000e (give back)" in foretold.out.splitlines()
    assert host.everything() == before
    assert libhook(host, "recover") == (0, "win11: given back\n", "")
    assert (host.changed, host.leftovers) == ([], [])
    audit = (Path(root) / "var/log/audit.jsonl").read_text()
    assert audit.count('"success": false') == 2
    assert libhook(host, "recover") == (0, "nothing is held\n", "")


def test_recover_says_what_does_not_come_back(root: str) -> None:
    """One line on stderr with the reason, exit code 1, and the journal entry stays for the next time."""
    from libhook.simulation.faults import Fault, heal, inject

    host = Host(root, nic())
    host.event(guest(NIC), "prepare")
    host.libvirt.restart()
    inject(root, Fault("write */unbind *", 0, error="EIO"))
    done = libhook(host, "recover")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"win11: not given back: {NIC}: ")
    assert done.err.count("\n") == 1
    heal(root)
    assert libhook(host, "recover") == (0, "win11: given back\n", "")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("arguments", [("--help",), *((command, "--help") for command in COMMANDS)])
def test_help_is_there_and_fits(root: str, arguments: tuple[str, ...]) -> None:
    """Exit code 0, on stdout, no line wider than a terminal, and no command forgotten."""
    host = Host(root, nic())
    for columns in (40, 80):
        done = libhook(host, *arguments, columns=columns)
        assert (done.code, done.err) == (0, "")
        assert columns < 80 or max(map(len, done.out.splitlines())) <= columns
    if arguments == ("--help",):
        assert all(command in done.out for command in COMMANDS)


def test_the_version_is_the_package_s(root: str) -> None:
    """One line."""
    assert libhook(Host(root, nic()), "--version") == (0, f"libhook {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [(), ("nonsense",), ("plan",), ("plan", "x", "y"), ("plan", "x", "--event", "migrate"), ("status", "x"), ("-x",)],
)
def test_wrong_usage_is_exit_code_2(root: str, arguments: tuple[str, ...]) -> None:
    """With the usage on stderr and nothing on stdout."""
    done = libhook(Host(root, nic()), *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: libhook")


def test_a_demo_that_fails_says_why_on_stderr(root: str) -> None:
    """One line, beside what it has shown; the launcher of a broken installation may be missing."""
    with mock.patch("libhook.command.commands.os.path.dirname", return_value="/nonexistent"):
        done = libhook(Host(root, nic()), "demo")
    assert done.code == 1
    assert done.err.startswith("the demo failed: /nonexistent/hooks/qemu is not there, or cannot be executed: ")
    assert done.err.count("\n") == 1
    assert "error    /nonexistent/hooks/qemu is not there" in done.out


@pytest.mark.parametrize("how", ["launcher", "command"])
def test_a_dry_run_of_the_hook_by_hand_refuses_nothing(root: str, how: str) -> None:
    """It changes nothing, so whoever runs it instead of the hook gets 0; why it would refuse is on stderr."""
    Host(root, workstation())
    command = ["hooks/qemu"] if how == "launcher" else [sys.executable, "-m", "libhook", "hook"]
    done = subprocess.run(
        [*command, "win11", "prepare", "begin", "-"],
        cwd=ROOT,
        env={"LIBHOOK_ROOT": root, "LIBHOOK_DRY_RUN": "1", "PATH": "/usr/bin:/bin"},
        input=guest(GPU).xml(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(f"refuse: {GPU} shares IOMMU group 14 with {SOUND}, ".encode())


def _piped(root: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "libhook", *arguments],
        cwd=ROOT,
        env={"LIBHOOK_ROOT": root, "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("arguments", [("devices",), ("devices", "--json")])
def test_a_reader_that_goes_away_is_no_error(root: str, arguments: tuple[str, ...]) -> None:
    """``libhook devices | head -1`` ends quietly, however much there was to say."""
    Host(root, many(600))
    with _piped(root, *arguments) as process:
        assert process.stdout
        assert process.stderr
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


def test_a_file_that_takes_no_more_is_one_line(root: str, tmp_path: Path) -> None:
    """What could not be printed is said, and no traceback is."""
    Host(root, sriov())
    with open(tmp_path / "out", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "libhook", "devices"],
            cwd=ROOT,
            env={"LIBHOOK_ROOT": root, "PATH": "/usr/bin:/bin"},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0)),
        )
    assert done.returncode != 0
    assert b"File too large" in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_module_is_the_command(root: str) -> None:
    """``python3 -m libhook`` from the project's root, without installing."""
    Host(root, sriov())
    with _piped(root, "devices") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"IOMMU group" in out


def test_hook_is_what_the_launcher_runs(root: str) -> None:
    """``libhook hook NAME OPERATION SUBOPERATION EXTRA`` with XML on stdin; --help is a guest's name there."""
    host = Host(root, recorded())
    xml = guest("0000:01:00.0", name="--help").xml(1)
    assert libhook(host, "hook", "--help", "prepare", "begin", "-", stdin=xml) == (0, "", "")
    assert host.driver("0000:01:00.0") == "vfio-pci"
    assert libhook(host, "hook", "--help", "release", "end", "failed", stdin=xml) == (0, "", "")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("command", ["inspect", "plan"])
def test_a_device_of_an_unknown_type_is_said(root: str, command: str) -> None:
    """What was passed over stands on stderr, a line each, and stdout is what it would be without."""
    xml = document("<hostdev mode='subsystem' type='warp' managed='no'><source/></hostdev>")
    done = libhook(Host(root, nic()), command, "-", stdin=xml)
    assert done.code == 0
    assert done.err.startswith("skipped: ")
    assert done.err.count("\n") == 1
    assert "warp" in done.err


@pytest.mark.parametrize("command", ["inspect", "plan"])
def test_help_names_the_argument_as_the_readme_does(root: str, command: str) -> None:
    """``GUEST|XML``."""
    assert "\n  GUEST|XML " in libhook(Host(root, nic()), command, "--help").out


@pytest.mark.parametrize("command", ["devices", "status", "doctor", "recover"])
def test_a_root_that_is_not_there_is_no_host_without_devices(root: str, command: str) -> None:
    """Mistyped, it is named; nothing is made there."""
    host = Host(root, nic())
    shutil.rmtree(root)
    done = libhook(host, command)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"LIBHOOK_ROOT is {root}, and there is no such folder: ")
    assert not Path(root).exists()
