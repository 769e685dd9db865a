# SPDX-License-Identifier: LGPL-2.1-or-later
"""install.sh asks SELinux before it puts the hook in place, by libhook's own code from the clone."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_install import ROOT, Clone

from libhook.simulation import build, processes
from libhook.simulation.selinux import Policy, confine, set_up
from libhook.simulation.world import World

LABELS = {"/": "virt_hook_t", "/bin/sh": "shell_exec_t", "/sys/bus/pci/drivers_probe": "sysfs_t"}
OPENED = ("open", "read", "execute")
PUT = "would write: /etc/libvirt/hooks/qemu"
REFUSED = "install.sh: the hook is not installed: follow the advice above, then run this again\n"


def policy(*hook: str, sysfs: Sequence[str] = ()) -> Policy:
    """What virtqemud may do with the hook, and that with /sys."""
    rules = {"shell_exec_t": OPENED, "virt_hook_t": hook, "sysfs_t": sysfs}
    files = {f"virtqemud_t {target} file": may for target, may in rules.items()}
    return Policy(LABELS, {**files, "virtqemud_t virt_hook_t dir": ("search",)})


@pytest.fixture(name="clone")
def _clone(tmp_path: Path, root: str) -> Clone:
    """A clone with the real package, on a host with SELinux on which virtqemud runs."""
    clone = Clone(tmp_path)
    shutil.copytree(ROOT / "libhook", clone.here / "libhook", dirs_exist_ok=True)
    build.build(root, World(()))
    processes.add(root, 700, "virtqemud")
    confine(root, 700, "virtqemud_t")
    Path(root, "run/virtqemud.pid").write_text("700\n")
    clone.set("selinuxfs", f"{root}/sys/fs/selinux")
    # What install.sh calls must heed no LIBHOOK_ROOT of the administrator's: whose kernel is asked is said here.
    clone.set(
        "python", clone.fake("python", f'[ -z "$LIBHOOK_ROOT" ] && LIBHOOK_ROOT={root} exec /usr/bin/python3 "$@"')
    )
    return clone


def test_where_there_is_no_selinux_nothing_is_asked(clone: Clone) -> None:
    """Nor said."""
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert PUT in done.stdout
    assert "SELinux" not in done.stdout


def test_a_hook_that_the_daemon_may_execute_is_put_in_place(clone: Clone, root: str) -> None:
    """Silently, where it may do its work, too; else with what is lacking, since a start is only refused then."""
    may = ("getattr", *OPENED, "execute_no_trans")
    set_up(root, policy(*may, sysfs=("open", "write")))
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr, "SELinux" in done.stdout) == (0, "", False)
    set_up(root, policy(*may))
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fail  SELinux lets virtqemud run the hook, but does not let the hook write to /sys" in done.stdout
    assert PUT in done.stdout


@pytest.mark.parametrize("unreadable", [False, True])
def test_one_that_it_may_not_execute_is_not(clone: Clone, root: str, unreadable: bool) -> None:
    """It would end every guest that runs when virtqemud next starts. Nothing is changed, and what helps is said."""
    set_up(root, policy("getattr", "open", "read"), booleans=["virt_hooks_unconfined"])
    if unreadable:
        Path(root, "proc/700/attr/current").unlink()
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr) == (1, REFUSED)
    assert "would write" not in done.stdout
    if unreadable:
        assert "note  cannot find out whether SELinux lets virtqemud run the hook: " in done.stdout
    else:
        module = clone.here / "libhook/libhook_virtqemud.cil"
        assert f"setsebool -P virt_hooks_unconfined on; semodule -i {module}\n" in done.stdout
        assert module.exists()
    set_up(root, policy("getattr", "open", "read"), enforce="0")
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "note  " in done.stdout
    assert PUT in done.stdout


def test_a_package_for_others_is_not_asked_about(clone: Clone, root: str) -> None:
    """Who builds one below a --destdir has another kernel than who installs it."""
    set_up(root, policy())
    assert clone.run().returncode == 0


def test_a_clone_that_does_not_run_puts_no_hook_in_place(clone: Clone, root: str) -> None:
    """What Python says is shown."""
    set_up(root, policy())
    (clone.here / "libhook/command/doctor.py").write_text("def broken(:\n")
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr) == (1, REFUSED)
    assert "SyntaxError" in done.stdout
