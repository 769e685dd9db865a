# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody without any right puts into a folder, or takes out of it, what root would import, run or obey."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cases import NIC
from clone import Clone
from command import libhook
from scenario import Host, guest

from libhook.simulation.hosts import nic

pytestmark = [
    pytest.mark.race,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has what others could take"),
]
NOBODY = 65534
STAFF = 50
WIN11 = guest(NIC)


def as_nobody(act: Callable[[], object]) -> bool:
    """Whether somebody without any right can do it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([STAFF])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


class Place:
    """A prefix and folders of configuration for install.sh, all of them and all above them root's own."""

    def __init__(self, folder: Path, clone: Clone) -> None:
        self.prefix, self.hooks, self.config = (
            folder / "usr/local",
            folder / "etc/libvirt/hooks",
            folder / "etc/libhook",
        )
        for made in (self.prefix / "lib/libhook/versions", self.prefix / "bin", self.prefix / "share", self.hooks):
            made.mkdir(parents=True)
        self.config.mkdir()
        self._clone = clone
        clone.set("libvirts", self.hooks)
        clone.set("config", self.config / "config.toml")

    def install(self, *more: str) -> "subprocess.CompletedProcess[str]":
        """What install.sh says to it, before it changes anything."""
        return self._clone.run("--dry-run", "--prefix", str(self.prefix), *more, destdir=False)


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="libhook-", dir="/var/cache"))
    folder.chmod(0o755)
    yield Place(folder, Clone(tmp_path))
    shutil.rmtree(folder)


def test_where_all_is_root_s_it_is_installed(place: Place) -> None:
    """As on any host; a folder that is not there yet is made."""
    assert place.install().returncode == 0
    shutil.rmtree(place.config)
    (place.prefix / "lib/libhook/versions").rmdir()
    done = place.install()
    assert (done.returncode, "would write" in done.stdout) == (0, True)


@pytest.mark.parametrize(("owner", "group", "mode"), [(0, STAFF, 0o2775), (0, 0, 0o777), (NOBODY, 0, 0o755)])
@pytest.mark.parametrize(
    "name",
    ["lib", "lib/libhook", "lib/libhook/versions", "bin", "share", "../../etc/libvirt/hooks", "../../etc/libhook"],
)
def test_a_folder_that_others_could_write_to_is_refused(
    place: Place, name: str, owner: int, group: int, mode: int
) -> None:
    """What helps can be pasted; until then somebody could put a module or a hook there."""
    folder = Path(os.path.normpath(place.prefix / name))
    os.chown(folder, owner, group)
    folder.chmod(mode)
    assert as_nobody((folder / "planted").touch)
    done = place.install()
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    remedy = line.partition(", then run: ")[2]
    assert re.fullmatch(rf"(chown root:root {folder}|chmod go-w {folder})", remedy)
    (folder / "planted").unlink()
    subprocess.run(["/bin/sh", "-c", remedy], check=True)
    assert not as_nobody((folder / "planted").touch)
    assert place.install().returncode == 0


def test_another_folder_for_the_hook_is_looked_at_as_well(place: Place) -> None:
    """It may be chosen, and so may one that others can write to."""
    other = place.prefix / "hooks"
    said = place.install("--hook-dir", str(other)).stderr
    assert said.startswith(f"install.sh: there is no folder {other}; use --hook-dir ")
    assert said.endswith(f", or, if libvirt looks there, run: mkdir -p {other}\n")
    other.mkdir()
    assert place.install("--hook-dir", str(other)).returncode == 0
    other.chmod(0o777)
    assert place.install("--hook-dir", str(other)).stderr.endswith(f"then run: chmod go-w {other}\n")
    other.chmod(0o1777)
    said = place.install("--hook-dir", str(other)).stderr
    assert f"everybody may put files into {other}" in said
    assert said.endswith("choose another --hook-dir\n")
    other.chmod(0o755)
    os.chown(other, NOBODY, 0)
    assert place.install("--hook-dir", str(other)).stderr.endswith(
        f"{other} does not belong to root, so root must not run anything from there; choose another --hook-dir\n"
    )


def test_all_of_it_is_said_at_once(place: Place) -> None:
    """Debian's /usr/local was staff's for long, every folder of it."""
    for folder in (place.prefix, *place.prefix.rglob("*")):
        folder.chmod(0o2775)
    os.chown(place.prefix / "bin", NOBODY, 0)
    remedy = place.install().stderr.partition(", then run: ")[2]
    subprocess.run(["/bin/sh", "-c", remedy], check=True)
    assert remedy.count("chmod") == remedy.count("chown") == 1
    assert place.install().returncode == 0


@pytest.mark.parametrize("relative", [True, False])
def test_where_a_link_leads_matters_too(place: Place, relative: bool) -> None:
    """It was made in root's own folder, and ends in somebody else's; one that leads nowhere yet could anywhere."""
    theirs, link = place.prefix / "theirs", place.prefix / "lib"
    (theirs / "lib/libhook").mkdir(parents=True)
    shutil.rmtree(link)
    link.symlink_to("theirs/lib" if relative else theirs / "lib")
    done = place.install()
    assert done.returncode == 0
    assert f"would write: {place.hooks}/qemu\n" in done.stdout
    (theirs / "lib/libhook").chmod(0o775)
    assert place.install().stderr.endswith(f"then run: chmod go-w {link}/libhook\n")
    theirs.chmod(0o777)
    assert place.install().stderr == refused(link, theirs)
    theirs.chmod(0o1777)
    assert place.install().stderr == refused(link, theirs)
    shutil.rmtree(theirs)
    assert "is a broken link" in place.install().stderr


def refused(link: Path, where: Path) -> str:
    """What is said of a link to a folder that is not safe: no command, since whoever made the link chose the name."""
    return f"install.sh: the link {link} leads to what users other than root could change, {where}; remove the link\n"


@pytest.mark.parametrize("depth", range(4))
def test_a_home_is_not_given_to_root_because_a_link_leads_there(place: Place, depth: int) -> None:
    """Neither where the link leads, nor what is above or below that."""
    link, home = place.prefix / "share/man", place.prefix.parent / "home/bob"
    target = home / "share/man"
    folders = (home, home / "share", target, target / "man8")
    folders[-1].mkdir(parents=True)
    for folder in folders[depth:]:
        os.chown(folder, NOBODY, NOBODY)
    link.symlink_to(target)
    assert place.install().stderr == refused(link, link / "man8" if depth == 3 else folders[depth])


@pytest.mark.parametrize("name", ["x;id>z", "$(id)", "a b", "x\n", "\x1b[2J", "`id`", "*", "ü"])
def test_a_name_that_somebody_chose_is_in_no_command(place: Place, name: str) -> None:
    """It is shown without what a terminal or a shell would obey, and nothing is offered to paste."""
    os.chown(place.prefix / "share", 0, STAFF)
    (place.prefix / "share").chmod(0o2775)
    folder = place.prefix.parent / name / "man"
    folder.mkdir(parents=True)
    os.chown(folder, NOBODY, 0)
    assert as_nobody(lambda: (place.prefix / "share/man").symlink_to(f"../../{name}/man"))
    done = place.install()
    assert (done.returncode, done.stdout) == (1, "")
    encoded = re.sub(rb"[^\w/.+-]", b"?", f"{place.prefix}/share/../../{name}/man".encode()).decode()
    link = f"{place.prefix}/share/man"
    assert done.stderr == (
        f"install.sh: the link {link} leads to '{encoded}', which is not of letters, digits and /._+- alone;"
        f" remove the link {link}\n"
    )


def test_a_line_s_end_in_a_link_s_name_is_part_of_it(place: Place) -> None:
    """Else another folder than the one that it leads to would be looked at."""
    theirs = place.prefix.parent / "x\n"
    theirs.mkdir()
    os.chown(theirs, NOBODY, 0)
    theirs.with_name("x").mkdir()
    (place.prefix / "share/man").symlink_to(theirs)
    assert "which is not of letters" in place.install().stderr


def test_a_folder_and_what_is_in_it_are_mended_together(place: Place) -> None:
    """A folder of somebody's that is met a second time, with one of theirs in it, is not a prefix of theirs."""
    for name in ("lib", "lib/libhook", "lib/libhook/versions"):
        os.chown(place.prefix / name, NOBODY, 0)
    remedy = place.install().stderr.partition(", then run: ")[2]
    lib = f"{place.prefix}/lib"
    assert remedy == f"chown root:root {lib} {lib}/libhook {lib}/libhook/versions\n"
    subprocess.run(["/bin/sh", "-c", remedy], check=True)
    assert place.install().returncode == 0


def test_a_prefix_that_is_somebody_s_is_not_to_be_mended(tmp_path: Path, place: Place) -> None:
    """A home or /tmp is as it should be, and no place for what root runs."""
    clone = Clone(tmp_path / "again")
    os.chown(place.prefix, NOBODY, -1)
    assert f"{place.prefix} does not belong to root" in place.install().stderr
    said = clone.run("--dry-run", "--prefix", "/tmp/libhook", destdir=False).stderr
    assert "everybody may put files into /tmp" in said
    assert "chmod" not in said


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A host on which nothing may be handed over without a trail, and there is none."""
    host = Host(root, nic(), "audit.required = true\n")
    for name in ("", "etc", "etc/libhook"):
        Path(root, name).chmod(0o755)
    return host


@pytest.mark.parametrize("above", ["", ".."])
def test_a_configuration_that_others_could_remove_refuses(host: Host, above: str) -> None:
    """It may have said that nothing is handed over without a trail; what is held is given back all the same."""
    config = Path(host.machine.config)
    folder = Path(os.path.normpath(config.parent / above))
    host.begin(WIN11)
    folder.chmod(0o777)
    assert as_nobody(
        lambda: config.rename(config.with_name("away")) if not above else config.parent.rename(f"{folder}/x")
    )
    line = f"{folder} is not a folder that only root may write to: check what is in it, then run: chmod go-w {folder}"
    for operation in ("prepare", "start"):
        assert host.event(WIN11, operation).line == line
    for operation in ("started", "release"):
        assert host.event(WIN11, operation, "shutdown" if operation == "release" else "-").stderr == ()
    assert host.driver(NIC) == "e1000e"
    assert f"fail  {line}" in libhook(host, "doctor").out.splitlines()
    assert host.event(guest(), "prepare").code == 0
    folder.chmod(0o755)
    assert host.event(WIN11, "prepare").code == 0


@pytest.mark.parametrize("fake", ["link", "another's"])
def test_a_folder_that_somebody_put_there_refuses(host: Host, fake: str) -> None:
    """Whoever has it can change what is in it."""
    folder = Path(host.machine.config).parent
    if fake == "link":
        folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to("elsewhere")
    else:
        os.chown(folder, NOBODY, 0)
    remedy = (
        "put a real folder there: links are not followed"
        if fake == "link"
        else f"check what is in it, then run: chown root:root {folder}"
    )
    assert host.event(WIN11, "prepare").line == f"{folder} is not a folder that only root may write to: {remedy}"


def test_without_a_folder_the_defaults_hold(host: Host) -> None:
    """Nobody but root can make it."""
    shutil.rmtree(Path(host.machine.config).parent)
    assert host.event(WIN11, "prepare").code == 0


def test_a_version_s_lock_is_never_open_to_others(tmp_path: Path) -> None:
    """Whoever once opened it could keep it locked, and no hook would run: at each step of install.sh it is root's."""
    clone, seen = Clone(tmp_path), tmp_path / "seen"
    new = clone.host / "usr/local/lib/libhook/versions/.new"
    for name in ("chmod", "find", "touch", "cp", "mv", "sed"):
        look = f'[ ! -e "$lock" ] || stat -c %a "$lock" >>{seen}'
        clone.fake(name, f'lock={new}/lock\n{look}\n{shutil.which(name)} "$@" || exit\n{look}')
    done = clone.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert set(seen.read_text().split()) == {"600"}
