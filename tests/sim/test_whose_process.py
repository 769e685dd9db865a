# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device is open in a process: the refusal offers what ends that process, and nothing that ends anything else."""

import os
from pathlib import Path

import hanging
import pytest
from at_terminal import desktop_session, group_of
from cases import DISK, GPU, SOUND
from pasting import cut, paste
from scenario import Host, guest, reap

from libhook.facts.cgroup import owner_of
from libhook.facts.host import Owner
from libhook.look import uses
from libhook.simulation import processes, systemd
from libhook.simulation.hosts import workstation

WITHOUT_COMMAND = (
    *("lxc", "a name to paste", "a machine to paste", "a scope of a user", "a unit of a user"),
    "podman of a user",
    *("tmux", "a desktop by hand", "a long name"),
)
ID = "0123456789ab" + 52 * "c"
SHORT = ID[:12]
MANAGER = "/user.slice/user-1000.slice/user@1000.service"
DESKTOP = '.units."display-manager.service" = "down"'
POD = f"Kubernetes starts the container again; to see which pod it is, run: crictl ps --id {SHORT}"
SESSION = "with all that runs in it: run: loginctl terminate-session "
OWNERS = {
    "docker": (f"/system.slice/docker-{ID}.scope", f"stop the container {SHORT} first: run: docker stop {SHORT}"),
    "docker without systemd": (f"/docker/{ID}", f"stop the container {SHORT} first: run: docker stop {SHORT}"),
    "podman": (f"/machine.slice/libpod-{ID}.scope/container", f"first: run: podman stop {SHORT}"),
    "podman of a user": (
        f"{MANAGER}/user.slice/libpod-{ID}.scope",
        f"stop the container {SHORT} of the user 1000 first",
    ),
    "kubernetes": (
        f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        POD,
    ),
    "kubernetes by cri-o": (f"/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/crio-{ID}.scope", POD),
    "kubernetes by docker": (f"/kubepods.slice/kubepods-pod1.slice/docker-{ID}.scope", POD),
    "kubernetes without systemd": (f"/kubepods/burstable/pod1/{ID}", POD),
    "kubernetes below another folder": (f"/kubelet.slice/kubelet-kubepods.slice/cri-containerd-{ID}.scope/init", POD),
    "containerd alone": (f"/system.slice/cri-containerd-{ID}.scope", f"first: run: crictl stop {SHORT}"),
    "podman in a service": (f"/system.slice/web.service/libpod-payload-{ID}", '.units."web.service" = "down"'),
    "tmux": (f"{MANAGER}/tmux-spawn-1a.scope", "stop tmux-spawn-1a.scope of the user 1000 first: "),
    "a desktop by hand": (f"{MANAGER}/session.slice/gnome.service", "stop gnome.service of the user 1000 first: "),
    "a job of cron": ("/system.slice/cron.service", "stop what has it open first; to see what that belongs to, run: "),
    "ssh without logind": ("/system.slice/ssh.service", "run: cat /proc/2000/cgroup"),
    "a socket's ssh without logind": (
        "/system.slice/system-ssh.slice/ssh@1-10.0.0.1:22-10.0.0.2:9.service",
        "run: cat ",
    ),
    "no group": ("/", "run: cat /proc/2000/cgroup"),
    "nspawn": ("/machine.slice/systemd-nspawn@my-box.service/payload", "first: run: machinectl terminate my-box"),
    "a machine": ("/machine.slice/machine-my\\x2dbox.scope", "first: run: machinectl terminate my-box"),
    "nspawn without machined": (  # src/nspawn/nspawn-register.c, allocate_scope
        "/machine.slice/my-box.scope/payload/system.slice/web.service",
        "stop my-box.scope first: run: systemctl stop my-box.scope",
    ),
    "a long name": (f"/system.slice/{240 * 'x'}.service", "name it in units; libhook config shows where"),
    "lxc": ("/lxc.payload.box/system.slice/nginx.service", "stop the container box first"),
    "a name to paste": ("/lxc.payload.run: reboot #", 'stop the container "run\\x3a reboot #" first'),
    "a machine to paste": ("/machine.slice/machine-a\\x3breboot.scope", 'stop the container "a;reboot" first'),
    "a scope": ("/system.slice/backup.scope", "stop backup.scope first: run: systemctl stop backup.scope"),
    "a folder of a service": (
        f"/system.slice/runner.service/docker-{ID}.scope",
        '.units."runner.service" = "down"',
    ),
    "another slice": ("/games.slice/sunshine.service", '.units."sunshine.service" = "down"'),
    "a session of ssh": (group_of("7"), SESSION),
    "a unit of a user": (
        f"{MANAGER}/app.slice/sway.service",
        "stop sway.service of the user 1000 first: ",
    ),
    "a scope of a user": (
        f"{MANAGER}/app.slice/app-firefox-1.scope",
        "stop app-firefox-1.scope of the user 1000 first: it is a unit of that user's own systemd",
    ),
    "the first process": ("/init.scope", "run: cat /proc/2000/cgroup"),
    "a guest": ("/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator", "run: cat /proc/2000/cgroup"),
    "nothing that is known": ("/somewhere", "run: cat /proc/2000/cgroup"),
}


TTY = "/system.slice/system-getty.slice/getty@tty1.service"
KDE = f"{MANAGER}/session.slice/plasma-kwin_wayland.service"
BY_HAND = {
    "sway from a tty": ("sway", group_of("7"), SESSION),
    "Xorg by startx": ("Xorg", group_of("7"), SESSION),
    "weston of root": ("weston", group_of("7", "0"), SESSION),
    "gamescope in a service with PAMName=": ("gamescope-wl", group_of("c7"), SESSION),
    "sway in a tty without logind": ("sway", TTY, '.units."getty@tty1.service" = "down"'),
    "cage in a service": ("cage", "/system.slice/cage.service", '.units."cage.service" = "down"'),
    "KDE from a tty": (
        "kwin_wayland",
        KDE,
        "stop plasma-kwin_wayland.service of the user 1000 first: it is a unit of ",
    ),
    "sway by uwsm": (
        "sway",
        f"{MANAGER}/session.slice/wayland-wm@sway.desktop.service",
        "stop wayland-wm@sway.desktop.service of the user 1000 first: it is a unit of ",
    ),
}
"""Who draws on the card without a display manager, its control group, and what is said."""
SEATD, LOGIND = 690, 691


def _open(root: str, node: str, group: str) -> Host:
    """A process of that control group has the node open, on a host whose desktop runs, in a session of another user."""
    host = Host(root, workstation(), "holder_wait = 0.1\n")
    systemd.add(root, "gdm.service", names=["display-manager.service"])
    processes.add(root, 800, "Xorg")
    desktop_session(root, 800)
    for one in (701, 800):
        processes.place(root, one, group=group_of("2", "1001"))
    processes.open_file(root, pid := processes.spawn(root, "player"), node)
    processes.place(root, pid, group=group)
    return host


@pytest.mark.parametrize("name", OWNERS)
def test_what_ends_a_process_is_offered_and_no_more(root: str, name: str) -> None:
    """The desktop is not stopped for what does not end with it."""
    group, says = OWNERS[name]
    host = _open(root, "/dev/dri/card0", group)
    refused = host.event(guest(GPU, SOUND), "prepare").line
    assert says in refused
    assert DESKTOP not in refused
    assert refused.count(" run: ") == (name not in WITHOUT_COMMAND)


def test_what_systemd_run_has_begun_is_not_offered_for_each_start(root: str) -> None:
    """A service that nobody could start again would refuse every later start."""
    group, _ = OWNERS["another slice"]
    host = _open(root, "/dev/dri/card0", group)
    host.put("/run/systemd/transient/sunshine.service", "")
    assert cut(host.event(guest(GPU, SOUND), "prepare").line) == "systemctl stop sunshine.service"


def _by_hand(root: str, name: str, *, settings: str = "") -> tuple[Host, int]:
    """A compositor has the card open, and before it who opens devices for it."""
    comm, group, _ = BY_HAND[name]
    host = Host(root, workstation(), f"holder_wait = 0.1\n{settings}")
    for pid, service in ((SEATD, "seatd"), (LOGIND, "systemd-logind")):
        processes.add(root, pid, service, ["/dev/dri/card0"])
        processes.place(root, pid, group=f"/system.slice/{service}.service")
    processes.add(root, pid := 2000, comm, ["/dev/dri/card0"])
    processes.place(root, pid, group=group)
    parts = group.split("/")
    if parts[1] == "system.slice":
        systemd.add(root, parts[-1], process=pid)
        for opener in (SEATD, LOGIND):
            processes.close_file(root, opener, "/dev/dri/card0")
    return host, pid


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("manager", ["none", "inactive", "active"])
def test_a_desktop_without_display_manager(root: str, name: str, manager: str) -> None:
    """A display manager that is not there, does not run, or shows somebody else's desktop, is not stopped."""
    host, pid = _by_hand(root, name)
    if manager != "none":
        systemd.add(root, "gdm.service", names=["display-manager.service"], active=manager)
    comm, _, says = BY_HAND[name]
    refused = host.event(guest(GPU, SOUND), "prepare").line
    assert f"it is open in {comm} (pid {pid}" in refused
    assert says in refused
    assert "display-manager" not in refused
    assert "gdm" not in refused
    if " run: mkdir" in refused:
        paste(host, refused)
        assert host.event(guest(GPU, SOUND), "prepare").code == 0
        assert not Path(root, f"proc/{pid}").exists()
        assert manager == "none" or systemd.state(root, "gdm.service") == manager


@pytest.mark.parametrize("name", ["a session of ssh", "a unit of a user"])
def test_what_the_display_manager_has_begun_ends_with_it(root: str, name: str) -> None:
    """A session whose first process is a child of it, and what systemd runs for that user."""
    host = _open(root, "/dev/dri/card0", OWNERS[name][0])
    processes.add(root, 702, "gdm-session-wor", parent=700)
    processes.place(root, 702, group=group_of("7"))
    alias = Path(root, "etc/systemd/system/display-manager.service")
    alias.unlink(missing_ok=True)
    alias.parent.mkdir(parents=True, exist_ok=True)
    alias.symlink_to("/lib/systemd/system/gdm3.service")  # as on Debian
    Path(root, "lib/systemd/system").mkdir(parents=True)
    Path(root, "lib/systemd/system/gdm3.service").symlink_to("gdm.service")
    assert DESKTOP in host.event(guest(GPU, SOUND), "prepare").line


def test_a_users_unit_stays_where_the_user_has_another_session(root: str) -> None:
    """One of SSH, say: the user's manager does not end with the desktop."""
    host = _open(root, "/dev/dri/card0", OWNERS["a unit of a user"][0])
    for pid, parent, session in ((702, 700, "7"), (703, 1, "8")):
        processes.add(root, pid, "gdm-session-wor", parent=parent)
        processes.place(root, pid, group=group_of(session))
    assert DESKTOP not in host.event(guest(GPU, SOUND), "prepare").line


@pytest.mark.parametrize("lingers", [False, True])
def test_a_users_unit_stays_where_the_user_lingers(root: str, lingers: bool) -> None:
    """The user's manager does not end with the last session then."""
    host = _open(root, "/dev/dri/card0", OWNERS["a unit of a user"][0])
    for pid, parent in ((700, 1), (702, 700)):
        processes.add(root, pid, "gdm-session-wor", parent=parent)
    processes.place(root, 700, group="/system.slice/gdm.service")
    processes.place(root, 702, group=group_of("7"))
    host.put("/run/systemd/users/1000", "# This is private data. Do not parse.\nNAME=tim\nSTATE=active\n")
    if lingers:
        host.put("/var/lib/systemd/linger/tim", "")
    assert (DESKTOP in host.event(guest(GPU, SOUND), "prepare").line) != lingers


def test_it_is_so_for_any_other_device(root: str) -> None:
    """And no desktop is offered there."""
    host = _open(root, "/dev/nvme0n1", OWNERS["docker"][0])
    assert cut(host.event(guest(DISK), "prepare").line) == f"docker stop {SHORT}"


def test_a_kernel_that_does_not_say_whose_it_is_delays_nobody(root: str) -> None:
    """The kernel answers for ever about one of two. The refusal comes, and says how to look."""
    host = _open(root, "/dev/nvme0n1", OWNERS["docker"][0])
    Path(root, "etc/libhook/config.toml").write_text("holder_wait = 0.1\nwrite_deadline = 600\n")
    host.patience = 0
    silent = Path(root, "proc", str(processes.spawn(root, "stuck")), "cgroup")
    processes.open_file(root, int(silent.parent.name), "/dev/nvme0n1")
    silent.unlink(missing_ok=True)
    os.mkfifo(silent)
    hanging.late_at_a_pipe(seconds=uses._PATIENCE + 1)
    line = host.event(guest(DISK), "prepare").line
    hanging.answer(silent)
    assert cut(line) == f"cat /proc/{silent.parent.name}/cgroup"
    assert reap(60)


@pytest.mark.parametrize("group", ["", "/", "/user.slice", "/user.slice/user-1.slice/user@2.service/x.service", "/x.y"])
def test_other_groups_tell_nothing(group: str) -> None:
    """A folder that looks like another user's manager is none."""
    assert owner_of(group) == Owner()
