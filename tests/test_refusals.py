# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/refusals.md is made from the code: it has each refusal of it, and no other."""

import re
import subprocess
from typing import NamedTuple

import pytest
import refusals
from refusals import TOP, Said

from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation

PAGE = TOP / "docs/refusals.md"
_SHOWN = (
    "0000:03:00.0 shares IOMMU group 14 with 0000:03:00.1, which is on snd_hda_intel: give the guest the whole group, "
    "or to have the rest taken along, run: mkdir -p /etc/libhook/config.d && "
    'echo \'domains."win11".siblings = "bind"\' >/etc/libhook/config.d/win11@siblings.toml'
)
_BEGINNING = f"""# When a start is refused

`virsh start` shows what libvirt makes of it. libhook's line is what follows the exit status:

```text
error: Failed to start domain 'win11'
error: Hook script execution failed: internal error: Child process (LC_ALL=C PATH=... HOME=/root
/etc/libvirt/hooks/qemu win11 prepare begin -) unexpected exit status 1: {_SHOWN}
```

The line says what is in the way, where it is, and then what to do. What follows `run:` can be pasted into a shell as
root, up to the end of the line, and does only what the line says. Such a command never holds a guest's name that a
shell could take for anything else; such a guest is named by its UUID. Of several causes the line has what to do about
the first; `libhook plan GUEST` says it of each. What is true of several devices is said once, with all of them.
`journalctl -t libhook` has the line later.

The example makes a setting for this guest alone, in a file of its own, and writes that file anew if it is there. Remove
the file to take the setting back. It holds for any guest of that name, so remove it with the guest.

After a refusal nothing is changed: nothing was done yet, or what was done is undone. Of what cannot be undone, the
line says `ended by then, and not coming back: …`.

Below, `…` stands for what varies, and `GUEST` for the guest's name. Under each refusal stands what it says to do.
Where a setting consents to the risk, that is said. This page is made from libhook's source
(tests/test_refusals.py).
"""


class Group(NamedTuple):
    """Refusals that mean much the same."""

    title: str
    meaning: str
    where: tuple[str, ...]
    """What their files begin with."""
    parts: tuple[str, ...] = ("",)
    """One of these is in the text."""


GROUPS = (
    Group(
        "The device cannot be given to any guest",
        "vfio hands over only a device that is there, behind an IOMMU, in a group, and not a bridge. What libhook "
        "cannot read of a device it could not bring back, so it does not take that device.",
        ("handlers/preflight.py",),
        ("not on this host", "a bridge", "IOMMU is off", "no IOMMU group", "not among", "cannot be read"),
    ),
    Group(
        "An address holds another device than at the last start",
        "Addresses move when hardware changes. The line says what the guest had there, what is there now, and where "
        "the old one is ([identity.md](identity.md)). `identity = \"warn\"` consents for one guest.",
        ("handlers/identity.py",),
    ),
    Group(
        "The vfio driver",
        "`<driver model=…>` in the guest's XML, or `driver` in the settings, names a driver that the kernel does not "
        "have, or that is no vfio driver.",
        ("handlers/preflight.py",),
        ("not a vfio driver",),
    ),
    Group(
        "The rest of its IOMMU group",
        "The kernel lets a guest have whole IOMMU groups only, but for bridges. The other functions of a card are "
        "mostly in its group. With `siblings` libhook binds them to vfio while the guest runs, and gives them back. If "
        "such a device itself cannot be taken, the line says why behind the group's number.",
        ("handlers/preflight.py",),
        ("shares IOMMU group",),
    ),
    Group(
        "Another guest has it",
        "Or its PF, one of its VFs, or something behind it, such as a USB stick or a SCSI disk: that guest would lose "
        "it.",
        ("handlers/",),
        ("held by the guest", "given to this guest"),
    ),
    Group(
        "The host uses it",
        "A mounted disk, a network interface with the default route, a GPU with a desktop on it: the host would lose "
        "it. `mounts`, `units` and `end` take them away for the guest, and bring back what can be brought back "
        "([settings.md](settings.md)). Whoever consents to a disk that is in use loses what is on it.",
        ("handlers/preflight.py", "kinds/holder/", "look/uses.py", "look/exports.py", "look/tenants.py"),
        ("in use by the host", "is open in", "VFs enabled", "also open", "in use", "does not end", "nodes cannot",
         "disks"),
    ),
    Group(
        "Who uses it cannot be seen",
        "libhook looks at all processes for who has the device open. What it may not see, it does not take for free.",
        ("look/holders.py", "look/occupants.py"),
    ),
    Group(
        "The audit trail is required",
        "`audit.required` is set. The line begins with the device: `…: the audit trail is required, but …`.",
        ("handlers/audit.py",),
    ),
    Group(
        "The device is not on vfio, or is another one",
        "At `start`, libhook looks once more before the guest's QEMU begins.",
        ("handlers/vfio.py",),
    ),
    Group(
        "A driver does not let go, or does not answer",
        "libhook has begun to move the device. It waits for whoever has it open (`holder_wait`), and for the driver "
        "(`write_deadline`). A driver that never answers costs the device until it does, or until a reboot; nothing "
        "touches the device until then.",
        ("kinds/pci/", "look/sysfs.py", "handlers/preflight.py"),
    ),
    Group(
        "Modules",
        "The driver could not be loaded, or `modules` names one that cannot go out of the kernel.",
        ("kinds/module/",),
        ("module", "driver", "in the way"),
    ),
    Group(
        "Virtual consoles",
        "They are unbound before the module that shows them goes.",
        ("kinds/module/consoles.py",),
    ),
    Group(
        "Units and mount points",
        "`units` or `mounts` asks for something that systemd does not do, or that could not be brought back.",
        ("kinds/unit/", "look/systemd.py", "look/seats.py"),
    ),
    Group("Sleep", "`sleep = \"inhibit\"` needs a service that holds logind's lock.", ("kinds/sleep.py",)),
    Group(
        "Values, and what guests share",
        "A file in /sys or /proc/sys does not take the value, or two guests that run want different things.",
        ("kinds/value.py", "kinds/claims.py", "kinds/claimants.py", "look/samefile.py", "kinds/lasting.py"),
    ),
    Group(
        "Commands, old scripts and what is required",
        "`run`, `legacy` and `require` run programs of your own, or look at what must be so. What root runs must be "
        "root's alone to write. `require` may have a reason of your own, and then that is shown as what to do.",
        ("kinds/command.py", "kinds/legacy.py", "kinds/require.py", "kinds/run.py", "look/executables.py",
         "look/oldscripts.py", "effects/groups.py", "effects/commands.py", "effects/transient.py"),
    ),
    Group(
        "Handlers of your own",
        "One in /etc/libhook/handlers refuses, or failed. The line begins with `handler`, its name, and where it "
        "failed its file and line ([own-handlers.md](own-handlers.md)).",
        ("story/consult.py",),
    ),
    Group(
        "What libhook keeps in /run/libhook",
        "The guest's journal entry says what to give back. Nothing is handed over that could not be written there.",
        ("story/", "effects/state.py", "effects/locks.py"),
    ),
    Group(
        "Files that others may write to, or that are broken",
        "Root acts on them, so they must be root's alone. An error in the settings is shown as "
        "`/etc/libhook/config.toml, line 3: …`, with what was probably meant; `libhook config` shows all of them, and "
        "`libhook config GUEST` what holds for a guest. A document that is no domain's XML is shown with its line.",
        ("effects/files.py", "look/patient.py"),
    ),
    Group(
        "libhook itself",
        "It could not be run, it was ended by somebody, or it has a bug.",
        ("children/", "run.py", "handlers/registry.py", "hooks/qemu"),
    ),
)  # fmt: skip


def _group(said: Said) -> Group:
    fitting = [
        one for one in GROUPS if said.file.startswith(one.where) and any(part in said.reason for part in one.parts)
    ]
    assert fitting, f"{said.file}: {said.reason}: no group has it"
    return fitting[0]


def _shown(remedy: str) -> str:
    """With its command as code, and the setting that consents."""
    before, run, command = remedy.partition("run: ")
    text = f"{before}{run}`{command}`" if run else remedy
    text = text.replace("<driver model=...>", "`<driver model=...>`")
    consents = re.search(r"\.(siblings|preflight\.\S+|end) = (\S+)'", remedy)
    return f"{text}. Consents: `{consents[1]} = {consents[2]}`" if consents else text


def _page() -> str:
    parts = [_BEGINNING]
    by_group: dict[str, dict[str, dict[str, None]]] = {}
    for said in refusals.every():
        own = by_group.setdefault(_group(said).title, {}).setdefault(said.reason, {})
        own.update(dict.fromkeys(map(_shown, said.remedies)))
    for group in GROUPS:
        parts.append(f"## {group.title}\n\n{_wrapped(group.meaning)}\n")
        for reason, remedies in by_group[group.title].items():
            lines = [f"- `{reason}`", *(f"  - {one}" for one in remedies or ("the line says what to do",))]
            parts.append("\n".join(lines))
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _wrapped(text: str) -> str:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) >= 120:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def test_the_page_of_refusals_is_what_the_code_says(request: pytest.FixtureRequest) -> None:
    """Each refusal that the source can utter is in it, with what it says to do, and no other."""
    if request.config.getoption("--libhook-regenerate"):
        PAGE.write_text(_page())
    assert PAGE.read_text() == _page()


def test_the_source_is_read_as_far_as_it_matters() -> None:
    """Of refusals whose words come from several places, all of it is found."""
    found = {said.reason: said.remedies for said in refusals.every()}
    assert len(found) > 140
    assert any('siblings = "bind"' in one for one in found["… shares IOMMU group … with …, which is on …"])
    assert len(found["… is in use by the host: …"]) == 17
    assert found["no auditd runs"] == ("with auditd installed, start it; under systemd, run: systemctl start auditd",)
    assert "the module … is built into the kernel" in found
    assert any("limits" in one for one in found["no child process can be started (…)"])
    assert [one for one in found if "does not run (python3 ended with status" in one]


def test_every_group_has_some() -> None:
    """A group whose refusals are gone goes, too."""
    assert {_group(said).title for said in refusals.every()} == {group.title for group in GROUPS}


def test_a_refusal_reads_as_the_page_shows(root: str) -> None:
    """The example is what the hook says of half a group, and what ``libhook plan`` says."""
    build(root, workstation())
    xml = Guest("win11", (Assigned("0000:03:00.0"),)).xml()
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LIBHOOK_ROOT": root}
    for command in (
        ["hooks/qemu", "win11", "prepare", "begin", "-"],
        ["/usr/bin/python3", "-m", "libhook", "plan", "-"],
    ):
        done = subprocess.run(command, cwd=TOP, env=environment, input=xml, capture_output=True, check=False)
        assert (done.returncode, done.stderr.decode().strip()) == (1, _SHOWN)
