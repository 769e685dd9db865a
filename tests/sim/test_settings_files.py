# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of the settings on a host: which are read and whom they refuse; and sections for whoever has a device."""

import json
import os
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from cases import DISK, NIC
from command import libhook
from fault_happenings import pull, replace
from plugging import attach, running, xml
from scenario import Host, guest, journal_text
from test_bad_input import OWNERSHIPS

from libhook.errors import KERNEL_LOG
from libhook.facts.config import Config
from libhook.facts.domain import Domain, HostDevice
from libhook.simulation.hosts import nic
from libhook.simulation.hypervisor import Hypervisor
from libhook.story import settings
from libhook.story.session import Session, load_config
from libhook.xml import domxml

OTHER = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
NETWORK = '[devices.network]\naudit.record = "2011"\n'


def drop_in(host: Host, name: str, text: str | bytes) -> Path:
    """A file of config.d."""
    path = Path(host.machine.drop_ins, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else os.fsencode(text))
    path.chmod(0o644)
    return path


def config(host: Host, name: str = "win11") -> Config:
    """The settings of a guest without devices."""
    return load_config(host.machine, Domain(name, "", "kvm", ()))


def test_files_are_read_in_the_order_of_their_bytes(root: str) -> None:
    """config.toml first; 9 comes after 10, capitals before small letters, and what is not ASCII last."""
    host = Host(root, nic(), 'driver = "main"\nholder_wait = 1\n')
    for name in ("10.toml", "9.toml", "B.toml", "a.toml", "\u00e9.toml", "\ue000.toml", "\udcff.toml"):
        drop_in(host, name, f'driver = "d{ord(name[0])}"\n')
        assert config(host) == Config(driver=f"d{ord(name[0])}", holder_wait=1.0)
    Path(host.machine.config).unlink()
    assert config(host).holder_wait == 10.0


@pytest.mark.parametrize(
    "name", [".a.toml", ".toml", "a.toml~", "#a.toml#", "a.toml.dpkg-new", "a.conf", "toml", "a.TOML"]
)
def test_what_an_editor_or_a_package_leaves_is_not_read(root: str, name: str) -> None:
    """Whatever is in it, and whoever may write to it."""
    host = Host(root, nic())
    drop_in(host, name, "no TOML").chmod(0o666)
    assert config(host) == Config()
    assert host.event(guest(NIC), "prepare").code == 0


@pytest.mark.parametrize("how", OWNERSHIPS)
def test_a_drop_in_that_others_could_have_written_is_not_read(root: str, how: str) -> None:
    """As config.toml: a guest with host devices is refused, and the line names the file."""
    host = Host(root, nic())
    path = drop_in(host, "a.toml", "dry_run = true\n")
    OWNERSHIPS[how](path)
    outcome = host.event(guest(NIC), "prepare")
    assert (outcome.code, str(path) in outcome.line) == (1, True)
    assert (outcome.writes, outcome.changed) == ((), ())
    assert host.event(guest(), "prepare").code == 0


def test_a_folder_of_drop_ins_that_others_may_write_to_is_not_read(root: str) -> None:
    """Nor one that is a link; an empty one is as none."""
    host = Host(root, nic())
    folder = Path(host.machine.drop_ins)
    folder.mkdir(mode=0o755)
    assert config(host) == Config()
    folder.chmod(0o775)
    refused = host.event(guest(NIC), "prepare").line
    assert (
        refused
        == f"{folder} is not a folder that only root may write to: check what is in it, then run: chmod go-w {folder}"
    )
    folder.rmdir()
    folder.symlink_to(host.root)
    assert f"{folder} is not a folder that only root may write to" in host.event(guest(NIC), "prepare").line


def test_a_folder_that_cannot_be_listed_refuses_and_harms_nobody(root: str) -> None:
    """The system's error, at prepare; at the end the device comes back."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    Path(host.machine.drop_ins).mkdir(mode=0o755)
    with mock.patch("libhook.look.attributes.entries", side_effect=OSError(5, "Input/output error", "config.d")):
        assert host.event(OTHER, "prepare").line == f"config.d: Input/output error: {KERNEL_LOG}"
    assert host.event(guest(NIC), "release", "shutdown").code == 0
    assert host.driver(NIC) == "e1000e"


def test_a_broken_file_is_named_and_a_wrong_section_is_for_whom_it_matches(root: str) -> None:
    """A wrong key in another guest's section does not keep this one from starting."""
    host = Host(root, nic())
    path = drop_in(host, "50-other.toml", "[domains.other]\nsiblngs = 'bind'\n")
    assert host.event(OTHER, "prepare").line == (
        '/etc/libhook/config.d/50-other.toml: unknown key domains."other".siblngs: it should probably be siblings'
    )
    assert host.event(guest(NIC), "prepare").code == 0
    host.event(guest(NIC), "release", "failed")
    path.write_text("this is no TOML\n")
    assert host.event(guest(NIC), "prepare").line.startswith("/etc/libhook/config.d/50-other.toml: ")
    assert host.event(guest(), "prepare").code == 0


@pytest.mark.parametrize("name", ["network", "8086:10d3", NIC])
def test_a_section_for_a_device_holds_for_the_whole_life(root: str, name: str) -> None:
    """At the guest's end its journal entry says what it had, also when the device is gone or another is there."""
    for happens in (lambda _: None, pull, lambda host: replace("1234:5678", host)):
        host = Host(f"{root}/{id(happens)}", nic(), f'[devices."{name}"]\naudit.record = "2011"\n')
        host.begin(guest(NIC))
        happens(host)
        host.event(guest(NIC), "release", "shutdown")
        texts = [entry["text"] for entry in host._lines("audit")]
        assert [" type=pci " in text for text in texts] == [True, True]


def test_a_section_for_another_device_holds_for_nobody(root: str) -> None:
    """A guest that has no such device, or none at all."""
    for name in ("display", "8086:1533", "0000:02:00.0"):
        host = Host(f"{root}/{name}", nic(), f'[devices."{name}"]\ncolour = 3\n')
        host.begin(guest(NIC))
        host.event(guest(NIC), "release", "shutdown")
        assert host.records == [f"start {NIC} success", f"stop {NIC} success"]


def test_an_entry_of_an_earlier_version_has_no_class(root: str) -> None:
    """It is read; the class is what the device there has, if it is still the same model."""
    for happens, known in ((lambda _: None, True), (pull, False), (lambda host: replace("1234:5678", host), False)):
        host = Host(f"{root}/{id(happens)}", nic(), NETWORK)
        host.begin(guest(NIC))
        path = Path(host.machine.state, "domains", f"{guest().uuid}.json")
        written = journal_text(host, guest().uuid)
        assert written["devices"][0].pop("pci_class") == 0x0200
        path.write_text(json.dumps(written))
        happens(host)
        host.event(guest(NIC), "release", "shutdown")
        assert (" type=pci " in host._lines("audit")[-1]["text"]) == known


def test_recover_and_whoever_settles_it_have_the_same_settings(root: str) -> None:
    """They know the guest from its entry alone."""
    host = Host(root, nic(), NETWORK)
    host.begin(guest(NIC))
    held = host.state.load(guest().uuid)
    assert held
    session = Session(host.machine, host.state, None, Config(), None, 0)  # type: ignore[arg-type]
    assert session.with_settings_of(held).config.audit_record == "2011"
    assert session.with_settings_of(held._replace(devices=())).config == Config()
    taken_along = held.devices[0]._replace(audited=False)
    assert session.with_settings_of(held._replace(devices=(taken_along,))).config == Config()


def test_a_guest_that_starts_has_what_its_xml_says(root: str) -> None:
    """Not what an entry of its last life has, which is still to be given back."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    host.configure(f"[devices.network]\ndriver = 'a'\n[devices.'{NIC}']\nholder_wait = 1\n")
    one = Domain("win11", guest().uuid, "kvm", (HostDevice("usb", "hostdev", managed=True, address="001.004"),))
    entry = partial(host.state.load, guest().uuid)
    assert load_config(host.machine, one, entry) == Config()
    assert load_config(host.machine, one._replace(devices=()), entry) == Config(driver="a", holder_wait=1.0)
    host.configure(f"[devices.'{NIC}']\nholder_wait = 1\n")
    assert load_config(host.machine, one, entry) == Config()
    assert load_config(host.machine, one._replace(devices=()), entry) == Config(holder_wait=1.0)


def test_a_device_that_is_lost_while_the_guest_runs_is_known_from_its_entry(root: str) -> None:
    """The XML still names it, and the host has nothing there any more."""
    host = Host(root, nic(), NETWORK)
    host.begin(guest(NIC))
    pull(host)
    domain = domxml.parse(guest(NIC).xml())
    assert load_config(host.machine, domain, partial(host.state.load, domain.uuid)).audit_record == "2011"
    assert load_config(host.machine, domain) == Config()


def test_a_broken_entry_leaves_what_the_host_says(root: str) -> None:
    """The settings are not lost with it."""
    host = Host(root, nic(), NETWORK)
    host.begin(guest(NIC))
    Path(host.machine.state, "domains", f"{guest().uuid}.json").write_text("{")
    domain = domxml.parse(guest(NIC).xml())
    assert load_config(host.machine, domain, lambda: host.state.load(domain.uuid)).audit_record == "2011"


def test_sys_is_looked_at_only_where_a_section_says_what_a_device_is(root: str) -> None:
    """Not for an address, nor where there is no such section."""
    host = Host(root, nic())
    domain = domxml.parse(guest(NIC).xml())
    with mock.patch.object(settings, "on_host", side_effect=ZeroDivisionError):
        for text in ("dry_run = true\n", f"[devices.'{NIC}']\ndry_run = true\n"):
            host.configure(text)
            assert load_config(host.machine, domain) == Config(dry_run=True)
        host.configure("[devices.network]\ndry_run = true\n")
        with pytest.raises(ZeroDivisionError):
            load_config(host.machine, domain)
        host.configure("")
    host.begin(guest(NIC))
    host.configure("[devices.network]\ndry_run = true\n")
    with mock.patch.object(settings, "on_host", side_effect=ZeroDivisionError):  # nor at the end: the entry knows
        held = host.state.load(guest().uuid)
        assert held
        assert load_config(host.machine, held) == Config(dry_run=True)


def test_a_device_that_is_plugged_in_counts_before_the_guest_has_it(root: str) -> None:
    """Its section decides about the hand-over itself."""
    host = running(root, NIC, config="[devices.nvme]\ndry_run = true\n")
    done = attach(host, Hypervisor(host.libvirt), xml(DISK))
    assert done.lines[0] == "dry_run = true in the settings: this is only printed, not done"
    host.configure("")
    assert attach(host, Hypervisor(host.libvirt), xml(DISK)).error == ""
    assert journal_text(host, guest().uuid)["devices"][1]["pci_class"] == 0x0108


def test_a_plan_has_the_settings_of_the_guest_s_devices(root: str) -> None:
    """So ``libhook plan`` shows what would be done."""
    host = Host(root, nic(), "[devices.network]\ndriver = 'nonsense'\n")
    done = libhook(host, "plan", "-", stdin=guest(NIC).xml())
    assert (done.code, "'nonsense' is not a vfio driver" in done.err) == (1, True)
