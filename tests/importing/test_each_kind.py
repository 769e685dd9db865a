# SPDX-License-Identifier: LGPL-2.1-or-later
"""One line of each sort that people write, what becomes of it, and what the report says."""

from pathlib import Path

import pytest
from plainhost import plain

from libhook.facts.address import PciAddress
from libhook.importing import importer, sources
from libhook.importing.importer import Imported
from libhook.importing.life import Guest

BEGIN = {
    "systemctl restart nmbd": (
        "kept",
        "by libhook: /usr/bin/systemctl --no-block restart nmbd.service, at prepare",
    ),
    "systemctl -M box stop inner": ("kept", "run.systemctl"),
    "systemctl suspend": ("left", "no setting suspends the host"),
    "systemctl daemon-reload": ("needless", "changes nothing that libhook needs"),
    "systemctl mask cups": ("danger", "holds for good"),
    "systemctl stop dbus.socket": ("danger", "dbus.socket is not touched: libvirt or the host depends on it"),
    "loginctl lock-sessions": ("kept", "run.loginctl-lock-sessions"),
    "systemd-inhibit --what=sleep true": ("kept", 'sleep = "inhibit"'),
    "rtcwake -m no -s 60": ("left", "it sets the clock that wakes the host"),
    "echo mem > /sys/power/state": ("left", "no setting suspends the host"),
    "modprobe -r zram": ("kept", 'modules: "zram"'),
    "modprobe zram": ("left", "zram is loaded again while the guest runs"),
    "modprobe nbd max_part=8": ("kept", "run.modprobe-nbd"),
    "echo nouveau > /sys/bus/pci/devices/0000:01:00.0/driver_override": ("left", "no setting puts a device on nouveau"),
    "umount /usr": ("left", "/usr is no mount point that libhook may take away"),
    "iptables -D FORWARD -j ACCEPT": ("needless", "libhook's undo has taken away before"),
    "iptables -I FORWARD -j ACCEPT": ("kept", "run.iptables-FORWARD"),
    "iptables -D LIBVIRT_FWI -j REJECT": ("danger", "it deletes rules of libvirt's"),
    "virsh qemu-monitor-command a --hmp info": ("wrong", "waits for the guest's own lock"),
    "virsh dominfo x": ("wrong", "waits for the guest's own lock"),
    "kill $(cat /run/made-up.pid 2>/dev/null || echo 4711)": ("danger", "it kills a process that it finds"),
    "sed -i s/a/b/ /etc/own.conf": ("kept", "run.sed-own-conf"),
    "cp /etc/own.conf /etc/other.conf": ("kept", "run.cp-own-conf-other-conf"),
    "mkdir -p /etc/own.d": ("kept", "run.mkdir-own-d"),
    "echo x > /var/lib/libvirt/network/x": ("danger", "which is libvirt's"),
    "exec 5<>/dev/tcp/192.0.2.1/80": ("left", "it talks to another program over a socket"),
    "./beside.sh on": ("left", "./beside.sh on was not given"),
    "/etc/libvirt/hooks/act.pl": ("left", "is no script of bash or sh, so nobody knows what it does"),
}
MIGRATE = {
    "systemctl stop at-migrate": ("left", "nothing is done with units at migrate"),
    "echo 1 > /sys/kernel/mm/ksm/run": ("left", "no setting runs anything of its own at migrate"),
}
END = {
    "systemctl start only-at-the-end": (
        "kept",
        "by libhook: /usr/bin/systemctl --no-block start only-at-the-end.service",
    ),
    "systemctl start sddm": ("kept", "--no-block start sddm.service"),
    "modprobe -r nbd": ("kept", "the undo of loading it"),
    "rmmod never_loaded": ("left", "never_loaded is unloaded at the end"),
    "modprobe loop": ("kept", "run by libhook: /usr/sbin/modprobe loop, at the guest's end"),
    "sysctl vm.laptop_mode=5": ("kept", "/proc/sys/vm/laptop_mode, at the guest's end"),
    "rm -f /etc/own-file": ("kept", "run.rm-own-file: at the guest's end"),
    "rmdir /etc/own.d": ("kept", "its undo"),
    "sudo -u tim foo back": ("kept", "run.foo-back: at the guest's end"),
    "iptables -D FORWARD -j ACCEPT": ("kept", "its undo"),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """All of it in one script, for a guest with another device than the script's."""
    folder = tmp_path_factory.mktemp("kinds")
    cases = "".join(f"{when})\n{chr(10).join(lines)}\n;;\n" for when, lines in
                    (("prepare", BEGIN), ("migrate", MIGRATE), ("release", END)))  # fmt: skip
    (folder / "qemu").write_text(f'#!/bin/bash\n[ "$1" = a ] || exit 0\ncase "$2" in\n{cases}esac\nexit 0\n')
    (folder / "act.pl").write_text("#!/usr/bin/no-such-language\n")
    guest = Guest("a", "<domain/>", (PciAddress.parse("0000:09:00.0"),))
    return importer.run(sources.read([str(folder)]), [guest], ["x"], plain())


@pytest.mark.parametrize(
    ("operation", "line"), [(name, line) for name, lines in
                            (("begin", BEGIN), ("migrate", MIGRATE), ("end", END)) for line in lines]
)  # fmt: skip
def test_what_becomes_of_a_line(found: Imported, operation: str, line: str) -> None:
    """It is told, with its fate and its reason."""
    how, text = {"begin": BEGIN, "migrate": MIGRATE, "end": END}[operation][line]
    told = [(one["what"], one["becomes"]) for one in found.data["lines"] if one["text"] == line]  # type: ignore[attr-defined]
    assert any(what == how and text in becomes for what, becomes in told), told


def test_what_starts_a_desktop_that_was_never_stopped_is_told(found: Imported) -> None:
    """Somebody meant it."""
    assert any("the display manager was never stopped by this script, but is started" in line for line in found.lines)


def test_a_program_is_no_script(tmp_path: Path) -> None:
    """It goes on as a whole."""
    (tmp_path / "qemu").write_bytes(b"\x7fELF\0\0")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert "[legacy]" in found.text
    assert any("is a program, and no script" in line for line in found.lines)


def test_a_card_for_every_guest_is_for_guests_with_a_card(tmp_path: Path) -> None:
    """The scripts ask for no name, so the settings do not, either."""
    (tmp_path / "qemu").write_text(
        '#!/bin/bash\n[ "$2" = prepare ] && { systemctl stop sddm; rmmod amdgpu; }\nexit 0\n'
    )
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert '[devices."display"]\nmodules = ["device:display"]\n[devices."display".units]\n' in found.text
    assert any("it is only for guests that have a graphics card" in line for line in found.lines)


def test_what_is_computed_from_a_document_that_was_not_given_is_left(tmp_path: Path) -> None:
    """And so is what a script reads besides, and nobody gave."""
    (tmp_path / "qemu").write_text(
        '#!/bin/bash\n[ "$2" = prepare ] || exit 0\n. /etc/libvirt/hooks/own.conf\nn=$(cat | wc -c)\n'
        "echo $n > /proc/sys/vm/nr_hugepages\nexit 0\n"
    )
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert "nr_hugepages" not in found.text
    assert any("the script computes what it writes, perhaps from the guest's XML" in line for line in found.lines)
    assert any("own.conf is read by the scripts, and was not given" in line for line in found.lines)
