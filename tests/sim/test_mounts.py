# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mount points that are away while a guest runs: ``units`` in the settings."""

from pathlib import Path
from typing import Any

import pytest
from cases import DISK, NIC
from command import libhook
from mounting import DATA, INDEX, MOUNTS, SUB, TARGET, mount, mounted
from scenario import Host, guest

from libhook.facts.mountpoint import unit_of
from libhook.facts.shared import file_name
from libhook.simulation import store, systemd
from libhook.simulation.hosts import workstation

ONE = guest(DISK)
OTHER = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")


def _host(root: str, config: str = MOUNTS, **data: Any) -> Host:  # noqa: ANN401 - as systemd.add
    host = Host(root, workstation(), f"holder_wait = 0.1\n{config}")
    mount(root, **data)
    return host


def _mounted(host: Host) -> list[str]:
    return mounted(host.root)


def _told(host: Host) -> list[str]:
    calls = store.lines(f"{host.root}/var/log/systemctl.jsonl")
    return [" ".join((call["verb"], *call["names"])) for call in calls if call["verb"] != "show"]


def test_a_mounted_disk_is_unmounted_for_the_guest(root: str) -> None:
    """With what is mounted below it and who needs it. The target that wants all mounts of fstab stays as it is."""
    host = _host(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), ONE.xml(1, False), dry_run=True).stderr
    assert foretold[0] == f"unmount /srv/data ({DATA}), and wait for 100 s at most"
    (unless,) = (line for line in foretold if line.startswith("refuse unless"))
    assert unless.startswith(f"refuse unless /srv/data is not mounted: {DISK} is in use by the host: /dev/nvme0n1 is")
    assert unless.endswith(f" (checked after: {foretold[0]}): unmount it first")
    host.begin(ONE)
    assert (host.driver(DISK), _mounted(host), systemd.state(root, INDEX)) == ("vfio-pci", [], "inactive")
    assert _told(host) == [f"stop {INDEX} {SUB} {DATA}"]
    ended = host.event(ONE, "release", "shutdown")
    assert "mount /srv/data again if it was, and no other guest needs it away" in ended.plan
    assert (_mounted(host), systemd.state(root, INDEX)) == (["/srv/data", "/srv/data/sub"], "active")
    assert TARGET not in " ".join(_told(host))
    assert (host.driver(DISK), systemd.state(root, TARGET), host.leftovers) == ("nvme", "active", [])


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_it_is_mounted_again_with_the_last(root: str, first_to_end: int) -> None:
    """A second guest needs it away, too."""
    host = _host(root)
    guests = [ONE, OTHER]
    for one in guests:
        host.begin(one)
    host.event(guests.pop(first_to_end), "release", "shutdown")
    assert _mounted(host) == []
    host.event(guests.pop(), "release", "shutdown")
    assert (_mounted(host), host.leftovers) == (["/srv/data", "/srv/data/sub"], [])


def test_where_nothing_is_mounted_there_is_nothing_to_do(root: str) -> None:
    """Whether fstab has it or not: nothing is mounted at the end that was not."""
    host = _host(root, '[units]\n"/srv/data" = "down"\n"/srv/none" = "down"\n', active="inactive")
    for unit in (SUB, INDEX):
        systemd.change(root, unit, active="inactive")
    store.create(f"{root}/proc/self/mountinfo", "")
    foretold = host.call((ONE.name, "prepare", "begin", "-"), ONE.xml(1, False), dry_run=True).plan
    assert [line for line in foretold if "mounted" in line] == [
        "warning: nothing is mounted at /srv/none, and no unit would mount it"
    ]
    host.begin(ONE)
    host.event(ONE, "release", "shutdown")
    assert (_mounted(host), _told(host), host.leftovers) == ([], [], [])


def test_an_automount_goes_last_and_comes_first(root: str) -> None:
    """It would mount it again; and stopping it detaches even what is busy."""
    host = _host(root, triggered_by=["srv-data.automount"])
    systemd.add(root, "srv-data.automount")
    host.begin(ONE)
    assert _told(host) == [f"stop {INDEX} {SUB} {DATA}", "stop srv-data.automount"]
    host.event(ONE, "release", "shutdown")
    assert _told(host)[2].startswith(f"start {SUB} srv-data.automount {DATA}")
    assert (systemd.state(root, "srv-data.automount"), host.leftovers) == ("active", [])


def test_a_name_with_a_dash_or_a_blank_is_no_other_unit(root: str) -> None:
    """systemd writes it with a backslash, and systemctl puts such names into quotes."""
    host = _host(root)
    other = r"srv-data-a\x2d\x20b.mount"
    systemd.change(root, DATA, required_by=[TARGET, SUB, INDEX, other])
    systemd.add(root, other)
    host.begin(ONE)
    assert systemd.state(root, other) == "inactive"
    host.event(ONE, "release", "shutdown")
    assert (systemd.state(root, other), host.leftovers) == ("active", [])


@pytest.mark.parametrize("automount", [False, True])
def test_a_busy_mount_refuses_the_start(root: str, automount: bool) -> None:
    """In one line. What went along comes back, and the device is not touched."""
    host = _host(root, stops=False, triggered_by=["srv-data.automount"] if automount else [])
    systemd.add(root, "srv-data.automount")
    outcome = host.event(ONE, "prepare")
    assert outcome.line == (
        "/srv/data cannot be unmounted: something has a file open there: stop what has it open first; "
        "to see which processes do, "
        "run: find /proc/[0-9]*/fd /proc/[0-9]*/cwd -lname /srv/data -o -lname '/srv/data/*'"
    )
    assert "stop srv-data.automount" not in _told(host)
    assert (host.driver(DISK), _mounted(host)) == ("nvme", ["/srv/data", "/srv/data/sub"])
    assert systemd.state(root, INDEX) == "active"


def test_another_mount_of_the_disk_is_refused_at_once(root: str) -> None:
    """It would be in use all the same: nothing is unmounted for nothing."""
    host = _host(root)
    with open(f"{root}/proc/self/mountinfo", "a") as file:
        file.write("43 22 259:1 /x /mnt/a\\040b rw - xfs /dev/nvme0n1 rw\n")
    outcome = host.event(ONE, "prepare")
    assert outcome.line.startswith(f"{DISK} is in use by the host: /dev/nvme0n1 is mounted on /srv/data, mounted on ")
    assert (_told(host), outcome.changed) == ([], ())
    systemd.add(root, r"mnt-a\x20b.mount", mounts="43 22 259:1 /x /mnt/a\\040b rw - xfs /dev/nvme0n1 rw")
    host.configure('[units]\n"/srv/data" = "down"\n"/mnt/a b" = "down"\n')
    host.begin(ONE)
    assert host.driver(DISK) == "vfio-pci"


def test_units_that_are_no_mount_do_not_make_a_mounted_disk_a_condition(root: str) -> None:
    """A desktop is not ended for what it cannot free; a mount's unit among the units is as good as its path."""
    host = _host(root, f'[units]\n"{INDEX}" = "down"\n')
    outcome = host.event(ONE, "prepare")
    assert outcome.line.startswith(f"{DISK} is in use by the host: ")
    assert _told(host) == []
    host.configure(f'[units]\n"{DATA}" = "down"\n')
    host.begin(ONE)
    assert host.driver(DISK) == "vfio-pci"


def test_what_is_still_in_use_after_that_is_mounted_again(root: str) -> None:
    """Something else had claimed the disk as well."""
    host = _host(root)
    systemd.change(root, DATA, disk="")
    outcome = host.event(ONE, "prepare")
    assert "is claimed by something that does not show here" in outcome.line
    assert (_mounted(host), host.driver(DISK)) == (["/srv/data", "/srv/data/sub"], "nvme")


@pytest.mark.parametrize(
    ("unit", "fields", "said"),
    [
        (DATA, {"file": False}, "/srv/data was mounted by hand: nobody could mount it again"),
        (DATA, {"load": "masked"}, f"{DATA} is masked: nobody could start it again"),
        (
            SUB,
            {"file": False},
            "/srv/data may not be unmounted: it would take /srv/data/sub along, and nobody could start that again",
        ),
        (
            INDEX,
            {"transient": True},
            f"/srv/data may not be unmounted: it would take {INDEX} along, and nobody could start that again",
        ),
        (
            INDEX,
            {"required_by": ["session-2.scope"]},
            "/srv/data may not be unmounted: it would take session-2.scope along",
        ),
    ],
)
def test_what_could_not_come_back_or_is_needed_is_refused(
    root: str, unit: str, fields: dict[str, Any], said: str
) -> None:
    """Before anything is done."""
    host = _host(root)
    systemd.add(root, "session-2.scope", transient=True)
    systemd.change(root, unit, **fields)
    outcome = host.event(ONE, "prepare")
    assert said in outcome.line
    assert (_told(host), outcome.changed) == ([], ())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", "a unit that neither libvirt nor the host depends on"),
        ("/usr/local", "a unit that neither libvirt nor the host depends on"),
        ("/dev/sda1", 'a mount point, not a disk: "/srv/data"'),
        ("srv", "the whole name of a service, socket, timer, path, mount or automount, or the path of a mount point"),
        ("/srv/", "the whole name of a service"),
        ("/srv//data", "the whole name of a service"),
        ("/srv/./data", "the whole name of a service"),
        ("/srv/../srv", "the whole name of a service"),
        (f"/{'a' * 300}", "the whole name of a service"),
    ],
)
def test_what_is_no_mount_point_is_said_with_its_line(root: str, path: str, said: str) -> None:
    """Others than that are looked at when the guest starts."""
    host = Host(root, workstation(), f'[units]\n"{path}" = "down"\n')
    outcome = host.event(ONE, "prepare")
    assert outcome.line.startswith("/etc/libhook/config.toml: units.")
    assert f"it must be {said}" in outcome.line


def test_of_two_that_go_with_each_other_one_is_asked_for(root: str) -> None:
    """A mount below another; it comes back with that one, once."""
    host = _host(root, f'[units]\n"/srv/data/sub" = "down"\n"/srv/data" = "down"\n"{INDEX}" = "down"\n')
    host.begin(ONE)
    held = host.state.load(ONE.uuid)
    assert held
    assert [one.subject for one in held.actions if one.kind == "unit"] == [DATA]
    ended = host.event(ONE, "release", "shutdown")
    assert not [entry for entry in ended.log if "left" in entry]
    assert (_mounted(host), host.leftovers) == (["/srv/data", "/srv/data/sub"], [])


def test_what_was_mounted_meanwhile_stays(root: str) -> None:
    """Somebody needed what is below it."""
    host = _host(root)
    host.begin(ONE)
    systemd.change(root, SUB, active="active")
    ended = host.event(ONE, "release", "shutdown")
    said = f'{DATA} was changed to "{SUB}" by somebody else, and stays so'
    assert said in [entry.get("left") for entry in ended.log]
    assert host.leftovers == []


def test_a_crash_after_the_unmount_is_made_good(root: str) -> None:
    """recover mounts it again by the claims; without any file of claims there is nothing to mount."""
    host = _host(root)
    host.begin(ONE)
    claims = Path(host.machine.state, "shared", f"{file_name(f'unit {DATA}')}.json")
    assert claims.exists()
    host.state.forget(ONE.uuid)
    assert libhook(host, "recover").code == 0
    assert _mounted(host) == ["/srv/data", "/srv/data/sub"]
    assert not claims.exists()


def test_a_long_mount_point_comes_back(root: str) -> None:
    """Each letter that is not plain takes many bytes in the unit's name, and more in the file of its claims."""
    path = "/mnt/" + "Видеоархив-семья-2024"
    host = Host(root, workstation(), f'holder_wait = 0.1\n[units]\n"{path}" = "down"\n')
    unit = unit_of(path)
    systemd.add(root, unit, mounts=f"40 22 259:1 / {path} rw - xfs /dev/nvme0n1 rw", disk="nvme0n1")
    host.begin(guest(DISK))
    assert systemd.state(root, unit) == "inactive"
    host.event(guest(DISK), "release", "shutdown")
    assert (systemd.state(root, unit), host.leftovers) == ("active", [])
