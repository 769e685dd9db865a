# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others at hot-plug, and where the hook is killed while it asks one."""

import os
import signal
import subprocess
from pathlib import Path
from unittest import mock

import hanging
import pytest
from aftermath import recover
from cases import DISK, NIC
from family import descendants, environment, until
from own import SWAPPINESS, WANTS, code, enabled, host, patient, swappiness
from plugging import attach, detach, running, xml
from scenario import Host, guest, reap

from libhook.simulation.hypervisor import Hypervisor

WIN11 = guest(NIC)


def _running(root: str, text: str) -> Host:
    """A guest with a disk that runs, and whose handler is enabled after its start."""
    own = running(root, DISK, config="")
    Path(f"{root}{SWAPPINESS}").parent.mkdir(parents=True, exist_ok=True)
    Path(f"{root}{SWAPPINESS}").write_text("60\n")
    own.configure(WANTS)
    enabled(own, text)
    return own


def test_what_is_set_for_a_device_goes_with_it(root: str) -> None:
    """Though it is a section for the guest that wants the handler. The plan says so."""
    body = 'names = [one["address"] for one in given["devices"]]\nassert "hostdev" in given["document"], given\n'
    body += f'return {{"settings": {{"values": {{"vm.swappiness": 10}}}}}} if names == ["{NIC}"] else 5'
    own = _running(root, code(body, '"attach",'))
    assert f'set {SWAPPINESS} to "10"' in attach(own, Hypervisor(own.libvirt), xml(NIC), dry_run=True).lines
    assert attach(own, Hypervisor(own.libvirt), xml(NIC)).error == ""
    assert swappiness(own) == "10"
    assert detach(own, Hypervisor(own.libvirt), xml(NIC)).error == ""
    assert swappiness(own) == "60"
    own.libvirt.stop("win11", "shutdown")
    assert (own.changed, own.leftovers) == ([], [])


def test_a_refusal_leaves_the_device_with_the_host(root: str) -> None:
    """And is recorded; a fault is no different."""
    for body, said in (('return {"refuse": "not now"}', "not now"), ("1 / 0", "ZeroDivisionError: division by zero")):
        own = _running(f"{root}/{len(body)}", code(body, '"attach",'))
        assert said in attach(own, Hypervisor(own.libvirt), xml(NIC)).error
        assert own.driver(NIC) == "e1000e"
        assert own.trail[-1] == f"attach {NIC} failed"
        own.libvirt.stop("win11", "shutdown")


def test_units_are_not_set_at_hotplug(root: str) -> None:
    """Only what libhook attach does for a device."""
    own = _running(root, code('return {"settings": {"units": {"a.service": "down"}}}', '"attach",'))
    said = "settings has 'units'; at attach it may have values"
    assert said in attach(own, Hypervisor(own.libvirt), xml(NIC)).error


def test_a_fault_at_detach_is_in_nobodys_way(root: str) -> None:
    """The device is back by then."""
    own = _running(root, code("1 / 0", '"detach",'))
    attach(own, Hypervisor(own.libvirt), xml(NIC))
    assert detach(own, Hypervisor(own.libvirt), xml(NIC)) == ([f"win11: gave up pci {NIC}"], "")
    assert own.driver(NIC) == "e1000e"
    assert "ZeroDivisionError" in Path(f"{root}/var/log/libhook.jsonl").read_text()


def test_an_error_of_ours_does_not_make_a_detach_fail(root: str) -> None:
    """It is in the log."""
    own = _running(root, code("return None", '"detach",'))
    attach(own, Hypervisor(own.libvirt), xml(NIC))
    with mock.patch("libhook.hotplug.unplug.consulted", side_effect=OSError(5, "Input/output error")):
        assert detach(own, Hypervisor(own.libvirt), xml(NIC)) == ([f"win11: gave up pci {NIC}"], "")
    assert "Input/output error" in Path(f"{root}/var/log/libhook.jsonl").read_text()


@pytest.mark.parametrize("values", [{"vm.missing": 1}, {"vm.swappiness": 1, "/proc/sys/vm/swappiness": 2}])
def test_where_an_attach_fails_for_what_was_set_the_handler_is_named(root: str, values: dict[str, int]) -> None:
    """The settings do not have it. It fails when it is done, or when it is planned."""
    own = _running(root, code(f'return {{"settings": {{"values": {values}}}}}', '"attach",'))
    assert (
        attach(own, Hypervisor(own.libvirt), xml(NIC)).error.count(" (handler night sets values): correct values") == 1
    )


def test_the_hook_is_killed_while_it_asks(root: str, tmp_path: Path) -> None:
    """Nothing is taken by then. What it has asked ends by itself, and the next start succeeds."""
    own = host(root, launcher=True)
    launcher = patient(own, tmp_path, 10.0)
    enabled(own, code("import time\ntime.sleep(3600)"))
    command = [str(launcher), "win11", "prepare", "begin", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(root), start_new_session=True
    ) as hook:
        assert hook.stdin
        hook.stdin.write(WIN11.xml(1, False))
        hook.stdin.close()
        until(lambda: any(map(hanging.is_a_handler, descendants(hook.pid))))
        os.killpg(hook.pid, signal.SIGKILL)
    assert reap(60)
    own.event(WIN11, "release", "failed")
    assert recover(own) == "nothing is held\n"
    assert own.driver(NIC) == "e1000e"
    patient(own, tmp_path / "second")
    enabled(own, code("return None"))
    assert own.event(WIN11, "prepare").code == 0
