# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether SELinux lets libvirt's daemon run the hook: asked of a kernel with selinuxfs, by doctor and by install.sh."""

from pathlib import Path

import pytest
from command import libhook
from scenario import Host

from libhook import cli
from libhook.command import doctor
from libhook.look import selinux
from libhook.simulation import processes
from libhook.simulation.hosts import nic
from libhook.simulation.selinux import Policy, confine, set_up

FOUND = ("getattr", "open", "read", "execute")
MAY_OPEN = {
    "virtqemud_t etc_t dir": ("search",),
    "virtqemud_t virt_hook_t dir": ("search",),
    "virtqemud_t shell_exec_t file": ("open", "read", "execute"),
}
WRITES = ("open", "write")
LABELS = {
    "/": "etc_t",
    "/etc": "etc_t",
    "/etc/libvirt": "etc_t",
    "/etc/libvirt/hooks": "virt_hook_t",
    "/etc/libvirt/hooks/qemu": "virt_hook_t",
    "/usr/sbin/virtqemud": "virtqemud_exec_t",
    "/bin/sh": "shell_exec_t",
    "/sys/bus/pci/drivers_probe": "sysfs_t",
}
INIT = {"init_t virtqemud_exec_t process": "virtqemud_t"}
AS_FEDORA = Policy(LABELS, {**MAY_OPEN, "virtqemud_t virt_hook_t file": ("getattr", "open", "read")}, INIT)
"""virtqemud may read hooks; its boolean lets virtnetworkd alone run them."""
STAYING = Policy(
    LABELS,
    {
        **MAY_OPEN,
        "virtqemud_t virt_hook_t file": (*FOUND, "execute_no_trans"),
        "virtqemud_t sysfs_t file": WRITES,
    },
    INIT,
)
MOVING = Policy(
    LABELS,
    {
        **MAY_OPEN,
        "virtqemud_t virt_hook_t file": FOUND,
        "virtqemud_t virt_hook_unconfined_t process": ("transition",),
        "virt_hook_unconfined_t etc_t dir": ("search",),
        "virt_hook_unconfined_t virt_hook_t dir": ("search",),
        "virt_hook_unconfined_t virt_hook_t file": ("entrypoint", "open", "read"),
        "virt_hook_unconfined_t sysfs_t file": WRITES,
    },
    {**INIT, "virtqemud_t virt_hook_t process": "virt_hook_unconfined_t"},
)
HOOK = "/etc/libvirt/hooks/qemu"
NEW = "/etc/libvirt/hooks/.libhook.new"
WELL = "ok    SELinux lets virtqemud run the hook, and lets the hook write to /sys"
DENIED = (
    "SELinux does not let virtqemud run the hook: "
    "guests do not start, and a restart of virtqemud may end those that run"
    " (virtqemud_t lacks {} for virt_hook_t (file))"
)
RELABEL = "restorecon -FR /etc/libvirt/hooks"


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A host on which virtqemud runs, and has left its pid."""
    host = Host(root, nic())
    processes.end(root, host.libvirt.pid)
    processes.add(root, 700, "virtqemud")
    confine(root, 700, "virtqemud_t")
    Path(root, "run").mkdir(exist_ok=True)
    Path(root, "run/virtqemud.pid").write_text("700\n")
    return host


def said(host: Host) -> list[str]:
    """What the doctor says of SELinux."""
    return [line for line in libhook(host, "doctor").out.splitlines() if "SELinux" in line]


def without(policy: Policy, rule: str, permission: str) -> Policy:
    """The policy with one permission less."""
    left = [name for name in policy.allow[rule] if name != permission]
    return policy._replace(allow={**policy.allow, rule: left})


def test_where_there_is_no_selinux_nothing_is_said(host: Host) -> None:
    """As on Debian: neither by the doctor, nor before the hook is installed."""
    assert said(host) == []
    assert doctor.before_install(host.machine, NEW) == (True, [])


@pytest.mark.parametrize("policy", [STAYING, MOVING])
def test_either_way_is_enough(host: Host, policy: Policy) -> None:
    """In the daemon's own domain, or in one that the policy has for hooks."""
    set_up(host.root, policy)
    assert said(host) == [WELL]
    assert doctor.before_install(host.machine, NEW) == (True, [])


@pytest.mark.parametrize(("policy", "rule"), [(policy, rule) for policy in (STAYING, MOVING) for rule in policy.allow])
def test_each_permission_that_is_missing_is_found(host: Host, policy: Policy, rule: str) -> None:
    """All that exec and then the shell ask of the kernel until the launcher runs; and what the hook writes."""
    source, target, kind = rule.split()
    for permission in policy.allow[rule]:
        set_up(host.root, without(policy, rule, permission))
        (line,) = said(host)
        assert line.startswith("fail  SELinux ")
        assert f"({source} lacks {permission} for {target} ({kind}))" in line
        assert line.endswith(
            f"{RELABEL}; if that is not enough: echo '(allow {source} {target} ({kind} ({permission})))'"
            " >libhook_local.cil; semodule -i libhook_local.cil"
        )
        harmless, before = doctor.before_install(host.machine, NEW)
        assert (harmless, before) == (target == "sysfs_t", [line])


def test_where_the_policy_has_a_switch_and_not_for_virtqemud(host: Host) -> None:
    """Fedora's boolean is turned on, and is given the rules that it lacks; for libvirtd it is enough."""
    set_up(host.root, AS_FEDORA, booleans=["virt_hooks_unconfined"])
    switch = f"{RELABEL}; setsebool -P virt_hooks_unconfined on"
    denied = DENIED.format("execute, execute_no_trans")
    assert said(host) == [f"fail  {denied}: {switch}; semodule -i {selinux.MODULE}"]
    rules = Path(selinux.MODULE).read_text()
    for rule in MOVING.allow:
        source, target, kind = rule.split()
        if source == "virtqemud_t" and target.startswith("virt_hook_"):  # the policy itself has the rest
            assert f"(allow {source} {target} ({kind} (" in rules
    Path(host.root, "run/virtqemud.pid").rename(Path(host.root, "run/libvirtd.pid"))
    processes.add(host.root, 700, "libvirtd")
    (line,) = said(host)
    assert line.endswith(f"does not let libvirtd run the hook{line.partition('run the hook')[2]}")
    confine(host.root, 700, "virtd_t")
    policy = AS_FEDORA._replace(allow={**AS_FEDORA.allow, "virtd_t virt_hook_t file": ()})
    set_up(host.root, policy, booleans=["virt_hooks_unconfined"])
    (line,) = said(host)
    assert line.endswith(f": {switch}")


@pytest.mark.parametrize(("enforce", "permissive"), [("0", ()), ("1", ("virtqemud_t",))])
def test_what_is_only_logged_is_a_warning(host: Host, enforce: str, permissive: tuple[str, ...]) -> None:
    """SELinux as a whole, or this one domain; the hook may be installed."""
    set_up(host.root, AS_FEDORA._replace(permissive=permissive), enforce=enforce)
    found, work = said(host)
    assert found.startswith(f"note  once it enforces this, {DENIED.format('execute, execute_no_trans')}: ")
    assert work.startswith(
        "note  once it enforces this, SELinux lets virtqemud run the hook, but does not let the hook write"
    )
    assert doctor.before_install(host.machine, NEW) == (True, [found, work])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("sys/fs/selinux/class/file/index", "{}: No such file or directory"),
        ("sys/fs/selinux/class/process/perms/transition", "{}: No such file or directory"),
        ("proc/700/attr/current", "{}: No such file or directory"),
    ],
)
def test_what_cannot_be_asked_is_not_claimed(host: Host, path: str, why: str) -> None:
    """A class that the policy does not have, a domain that cannot be read: then the hook is not put there either."""
    set_up(host.root, MOVING)
    Path(host.root, path).unlink()
    (line,) = said(host)
    reason = why.format(Path(host.root, path))
    remedy = "see what it denies: ausearch -m AVC -ts recent"
    assert line == f"note  cannot find out whether SELinux lets virtqemud run the hook: {reason}: {remedy}"
    assert doctor.before_install(host.machine, NEW) == (False, [line])
    set_up(host.root, MOVING, enforce="0")
    Path(host.root, path).unlink(missing_ok=True)
    assert doctor.before_install(host.machine, NEW)[0]


@pytest.mark.parametrize("domain", ["unknown_t", "two words", "x"])
def test_a_context_that_is_none(host: Host, domain: str) -> None:
    """One that the policy does not know, and one that the kernel would take for more than one."""
    set_up(host.root, MOVING)
    confine(host.root, 700, domain)
    if domain == "x":
        Path(host.root, "proc/700/attr/current").write_text("kernel\0")
    (line,) = said(host)
    assert "cannot find out whether" in line
    assert ("Invalid argument" in line) is (domain == "unknown_t")


def test_where_none_runs_it_is_asked_of_what_init_would_start(host: Host) -> None:
    """Of each daemon that is installed: systemd starts virtqemud by its sockets, and it ends when nobody asks."""
    processes.end(host.root, 700)
    set_up(host.root, MOVING)
    assert said(host) == []
    folder = Path(host.root, "usr/sbin")
    folder.mkdir(parents=True)
    (folder / "virtqemud").touch()
    assert said(host) == [WELL]
    (folder / "libvirtd").touch()
    labels = {**LABELS, "/usr/sbin/libvirtd": "virtd_exec_t"}
    transitions = {**MOVING.transitions, "init_t virtd_exec_t process": "virtd_t"}
    set_up(host.root, MOVING._replace(labels=labels, transitions=transitions))
    well, denied = said(host)
    assert well == WELL
    assert "SELinux does not let libvirtd run the hook" in denied


def test_a_pid_that_another_process_has_now_is_not_asked(host: Host) -> None:
    """The daemon is dead, and left its file."""
    set_up(host.root, MOVING)
    processes.add(host.root, 700, "bash")
    assert said(host) == []
    Path(host.root, "run/virtqemud.pid").write_text("\n")
    assert said(host) == []


def test_a_hook_that_is_not_there_yet_is_asked_about_as_it_will_be(host: Host) -> None:
    """The kernel labels it as its folder, or as a rule says; where folders are missing, too, these as theirs."""
    set_up(host.root, MOVING._replace(labels={**LABELS, "/etc/libvirt/hooks": "etc_t"}))
    harmless, lines = doctor.before_install(host.machine, NEW)
    assert not harmless
    assert "virtqemud_t lacks getattr, open, read, execute, execute_no_trans for etc_t (file)" in lines[0]
    assert said(host) == [WELL]
    labels = {path: label for path, label in LABELS.items() if not path.startswith("/etc")}
    transitions = {
        **MOVING.transitions,
        "unconfined_t etc_t dir": "virt_etc_t",
        "unconfined_t virt_etc_t dir": "virt_hook_t",
    }
    search = {f"{domain} virt_etc_t dir": ("search",) for domain in ("virtqemud_t", "virt_hook_unconfined_t")}
    allow = {**MOVING.allow, **search}
    set_up(host.root, Policy(labels, allow, transitions))
    assert doctor.before_install(host.machine, NEW) == (True, [])


def test_install_sh_is_told_in_printable_lines(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a label is called."""
    monkeypatch.setenv("LIBHOOK_ROOT", host.root)
    monkeypatch.setattr("sys.argv", ["-c", NEW])
    monkeypatch.setattr(doctor, "before_install", lambda *_: (False, ["note  a_t\n\x9b31m lacks execute"]))
    with pytest.raises(SystemExit) as end:
        cli.ask_selinux()
    assert (end.value.code, capsys.readouterr().out) == (cli.REFUSED, "note  a_t\\n\\x9b31m lacks execute\n")
