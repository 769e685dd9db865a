# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook config``: every setting with its origin, what holds for one guest, and every error."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from unittest import mock

import pytest
from cases import GPU, NIC, SOUND
from command import Done, libhook
from scenario import Host, document, guest
from test_settings_files import drop_in

from libhook.facts.config import Config
from libhook.simulation.hosts import workstation

FILE = "/etc/libhook/config.toml"
MORE = "/etc/libhook/config.d/50-more.toml"
LINUX = "11111111-2222-3333-4444-555555555555"
ALL = """\
holder_wait = 2.5
[devices.display]
write_deadline = 60
[domains."win*"]
driver = "vfio-pci"
[domains."win11"]
siblings = "bind"
values = {"vm.swappiness" = 10}
"""


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A host with settings in two files, on which win11 and linux are defined."""
    host = Host(root, workstation(), ALL)
    drop_in(host, "50-more.toml", "values = {'vm.swappiness' = 20, 'vm.x' = 1}\n[audit]\nrequired = true\n")
    define(host, "win11", guest(GPU, SOUND).xml())
    define(host, "linux", document(name="linux", uuid=LINUX))
    return host


def define(host: Host, name: str, xml: bytes, *, runs: bool = False) -> Path:
    """libvirt's file of a guest."""
    path = Path(host.root, "run" if runs else "etc", "libvirt/qemu", f"{name}.xml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"<domstatus state='running' pid='7'>\n%s\n</domstatus>\n" % xml if runs else xml)
    return path


def shown(done: Done) -> list[str]:
    """Its lines; nothing is wrong."""
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def test_every_setting_is_shown_with_its_origin(host: Host) -> None:
    """In the order of the files, with its section; then what consents to a risk. Nothing is changed."""
    before = host.everything()
    assert shown(libhook(host, "config")) == [
        f"{FILE}  holder_wait = 2.5",
        f'{FILE}  devices."display".write_deadline = 60',
        f'{FILE}  domains."win*".driver = "vfio-pci"',
        f'{FILE}  domains."win11".siblings = "bind"',
        f'{FILE}  domains."win11".values."vm.swappiness" = 10',
        f'{MORE}  values."vm.swappiness" = 20',
        f'{MORE}  values."vm.x" = 1',
        f"{MORE}  audit.required = true",
        f'allows what libhook refuses by default: domains."win11".siblings = "bind" ({FILE})',
    ]
    assert host.everything() == before


def test_what_holds_for_a_guest_is_shown_with_its_origin(host: Host) -> None:
    """By its name or UUID; its devices are those of libvirt's file; what nobody sets is marked."""
    lines = shown(libhook(host, "config", "win11"))
    assert lines[:3] == [
        f"win11  {guest().uuid}",
        f"  pci  {GPU}  1002:73bf  display",
        f"  pci  {SOUND}  1002:ab28  audio",
    ]
    assert [re.split("  +", line) for line in lines[3:]] == [
        ["dry_run = false", "default"],
        ["bind_managed = false", "default"],
        ['driver = "vfio-pci"', f'{FILE} [domains."win*"]'],
        ['siblings = "bind"', f'{FILE} [domains."win11"]'],
        ["write_deadline = 60", f'{FILE} [devices."display"]'],
        ["holder_wait = 2.5", FILE],
        ['audit.record = "libvirt"', "default"],
        ["audit.required = true", MORE],
        ["audit.extra = false", "default"],
        ['preflight.storage = "refuse"', "default"],
        ['preflight.network = "refuse"', "default"],
        ['preflight.display = "refuse"', "default"],
        ['preflight.usb = "refuse"', "default"],
        ['identity = "refuse"', "default"],
        ['values."vm.x" = 1', MORE],
        ['values."vm.swappiness" = 10', f'{FILE} [domains."win11"]'],
        [f'allows what libhook refuses by default: siblings = "bind" ({FILE} [domains."win11"])'],
    ]
    assert len({line.rindex("  ") for line in lines[3:-1]}) == 1
    assert shown(libhook(host, "config", guest().uuid.upper())) == lines


def test_a_guest_that_runs_has_the_devices_that_it_has_now(host: Host) -> None:
    """libvirt's status file says which; the other file says what it will have at its next start."""
    define(host, "win11", guest(NIC).xml(1), runs=True)
    lines = shown(libhook(host, "config", "win11"))
    assert lines[1] == f"  pci  {NIC}  8086:10d3  network"
    assert [line.split()[3] for line in lines if line.startswith("write_deadline = 30 ")] == ["default"]


def test_a_guest_that_nobody_knows_is_known_by_its_name_or_uuid_alone(host: Host) -> None:
    """It may be defined later; that is said."""
    lines = shown(libhook(host, "config", "win95"))
    assert lines[0] == "win95 is not defined here, so its devices are not known: no section for a device counts"
    assert any(line.startswith('driver = "vfio-pci"') for line in lines)
    host.configure(f'[domains."{LINUX.replace("1", "2")}"]\ndriver = "x"\n')
    lines = shown(libhook(host, "config", LINUX.replace("1", "2")))
    assert any(line.startswith('driver = "x" ') for line in lines)


@pytest.mark.parametrize(
    ("word", "near"), [("wn11", "did you mean win11? "), ("lateer", "did you mean later? "), ("nosuch", "")]
)
def test_a_guest_that_is_nowhere_named_is_an_error(host: Host, word: str, near: str) -> None:
    """Neither libvirt's files nor a section has it, while others are defined."""
    host.configure("[domains.later]\n")
    done = libhook(host, "config", word)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"there is no guest {word}, and no section for it: {near}virsh list --all lists the guests\n"


def test_sections_about_no_guest_are_named(host: Host) -> None:
    """A name that nobody has, with the likely one; a pattern, a UUID and a device likewise."""
    host.configure(
        f"[domains.wn11]\n[domains.'x*']\n[domains.'{guest().uuid}']\n[domains.'{LINUX.replace('1', '2')}']\n"
        f"[devices.nvme]\n[devices.'{GPU}']\n[devices.audio]\n[domains.linux]\n"
    )
    Path(host.machine.drop_ins, "50-more.toml").unlink()
    about = "about no guest that is known here:"
    assert shown(libhook(host, "config")) == [
        f"{FILE}  (sets nothing)",
        f'{about} devices."nvme" ({FILE})',
        f'{about} domains."wn11" ({FILE}): it should probably be domains."win11"',
        f'{about} domains."x*" ({FILE})',
        f'{about} domains."{LINUX.replace("1", "2")}" ({FILE})',
    ]


def test_where_libvirt_s_files_cannot_be_read_nobody_says_that_a_section_is_about_nobody(host: Host) -> None:
    """Who is not root may not read them; and one that is broken may be the guest's."""
    host.configure("[domains.wn11]\n")
    denied = PermissionError(13, "Permission denied", "/etc/libvirt/qemu")
    with (
        mock.patch("libhook.look.attributes.entries", return_value=[]),  # config.d, which anybody may list
        mock.patch("os.listdir", side_effect=denied),
    ):
        lines, one = shown(libhook(host, "config")), shown(libhook(host, "config", "win11"))
    reason = "/etc/libvirt/qemu: Permission denied"
    assert lines[-1] == f"which of the sections are about no guest is not known: {reason}"
    assert one[0] == (
        f"win11 is not defined here ({reason}), so its devices are not known: no section for a device counts"
    )
    path = define(host, "broken", b"<domain>")
    assert shown(libhook(host, "config"))[-1].startswith(
        f"which of the sections are about no guest is not known: {path}: "
    )
    assert json.loads(libhook(host, "config", "--json").out)["about_no_guest"] is None
    host.configure("[domains.win11]\n")
    assert shown(libhook(host, "config"))[-1] == f"{FILE}  (sets nothing)"


def test_without_files_the_defaults_hold(root: str) -> None:
    """Nor is libvirt needed."""
    host = Host(root, workstation())
    assert shown(libhook(host, "config")) == ["there are no files, so every setting has its default"]
    shutil.rmtree(f"{root}/run/libvirt/qemu")
    assert not Path(root, "etc/libvirt/qemu").exists()
    lines = shown(libhook(host, "config", "win11"))
    assert lines[0] == "win11 is not defined here, so its devices are not known: no section for a device counts"
    assert all(line.endswith(" default") for line in lines[1:])
    assert len(lines) == 1 + len(Config._fields) - 2  # but for what asks for actions, and by_uuid


def test_all_errors_are_shown(host: Host) -> None:
    """On stderr, each with its file; what is right is shown all the same. A guest sees those that refuse it."""
    drop_in(host, "60.toml", "[domains.win11]\nsiblngs = 1\ndriver = 1\n[domains.linux]\nx = 1\n")
    drop_in(host, "70.toml", "no TOML\n")
    done = libhook(host, "config")
    wrong, broken = (f"/etc/libhook/config.d/{name}.toml" for name in ("60", "70"))
    errors = [
        f'{wrong}: unknown key domains."win11".siblngs: it should probably be siblings',
        f'{wrong}: domains."win11".driver is 1: it must be a driver\'s name, or "auto"',
        f'{wrong}: unknown key domains."linux".x: the known keys are ',
        f"{broken}: this is not TOML: ",
    ]
    assert done.code == 1
    assert [line[: len(error)] for line, error in zip(done.err.splitlines(), errors, strict=True)] == errors
    assert f"{MORE}  audit.required = true" in done.out.splitlines()
    assert "/etc/libhook/config.d/70.toml  (see its errors)" in done.out.splitlines()
    one = libhook(host, "config", "win11")
    assert (one.code, len(one.err.splitlines())) == (1, 3)
    assert one.out.splitlines()[-1] == "until the errors are corrected, it is given no host device"
    refused = host.event(guest(GPU, SOUND), "prepare").line
    assert refused == f"{errors[0]}; and 3 more: libhook config shows them"


def test_a_file_that_is_not_trusted_is_one_of_the_errors(host: Host) -> None:
    """And folders that others may write to are the only one: nothing in them counts."""
    path = Path(host.machine.drop_ins, "50-more.toml")
    path.chmod(0o666)
    done = libhook(host, "config")
    remedy = f"check what is in it, then run: chown root:root {path}; chmod 644 {path}"
    assert (done.code, done.err) == (1, f"{path} is not a file that only root may write to: {remedy}\n")
    path.parent.chmod(0o777)
    done = libhook(host, "config")
    assert (done.code, done.out) == (1, "")
    what = "is not a folder that only root may write to: check what is in it, then run: chmod go-w"
    assert done.err == f"{path.parent} {what} {path.parent}\n"


def test_it_is_data_too(host: Host) -> None:
    """With --json: files, settings, sections about nobody, errors; of a guest its devices and what holds."""
    drop_in(host, "60.toml", "[domains.wn11]\nx = 1\n")
    done = libhook(host, "config", "--json")
    found = json.loads(done.out)
    assert done.code == 1
    assert found["files"] == [FILE, MORE, "/etc/libhook/config.d/60.toml"]
    relaxed = [one for one in found["settings"] if one["relaxes"]]
    assert relaxed == [{"key": 'domains."win11".siblings', "value": "bind", "file": FILE, "relaxes": True}]
    assert found["about_no_guest"] == [{"section": 'domains."wn11"', "file": "/etc/libhook/config.d/60.toml"}]
    (error,) = found["errors"]
    assert (error["key"], error["what"]) == ('domains."wn11".x', 'unknown key domains."wn11".x')
    one = json.loads(libhook(host, "config", "win11", "--json").out)
    assert one["guest"] == {"name": "win11", "uuid": guest().uuid, "known": True, "pci": [GPU, SOUND]}
    values = {row["key"]: (row["value"], row["file"]) for row in one["settings"]}
    assert values["driver"] == ("vfio-pci", FILE)
    assert values["audit.extra"] == (False, None)
    assert values['values."vm.swappiness"'] == (10, FILE)


def test_foreign_text_is_escaped(host: Host) -> None:
    """A name or value that a terminal would obey is shown, not obeyed."""
    host.configure('[domains."a\\u001b[2Jb"]\nvalues = {"x\\u202ey" = "\\u0009z"}\n"\\u001bq" = 1\n')
    done = libhook(host, "config")
    assert all(line.isprintable() for line in (done.out + done.err).splitlines())
    assert "\\x1b" in done.out
    assert "\\x1b" in done.err


def test_a_section_is_shown_as_toml_writes_it(root: str) -> None:
    """So it can be pasted into a file."""
    text = 'run.screen = { command = ["/usr/bin/true", "a \\"b\\""], seconds = 5, background = true }'
    host = Host(root, workstation(), f'[domains."win11"]\n{text}\n')
    (line,) = [one for one in libhook(host, "config", "win11").out.splitlines() if one.startswith("run.screen")]
    assert line.startswith(f"{text}  ")
    assert tomllib.loads(line.rpartition("  ")[0]) == tomllib.loads(text)
