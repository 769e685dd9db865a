# SPDX-License-Identifier: LGPL-2.1-or-later
"""install.sh, from a clone whose package and launcher are stand-ins. What needs a real host is tested in the lab."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import patience
import pytest
from clone import HOOK, ROOT, Clone

from libhook.simulation import build, processes
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.selinux import Policy, confine, set_up
from libhook.simulation.world import World

OUR_HOOK_IN_D = "etc/libvirt/hooks/qemu.d/libhook"
LIB = "usr/local/lib/libhook"
SHARE = "usr/local/share"
DOCUMENTS = f"{SHARE}/doc/libhook"
COMPLETIONS = (
    f"{SHARE}/bash-completion/completions/libhook",
    f"{SHARE}/zsh/site-functions/_libhook",
    "etc/fish/completions/libhook.fish",
)
MANUALS = ("man8/libhook.8", "man5/libhook.toml.5", "man7/libhook-handlers.7")


@pytest.fixture(name="clone")
def _clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("install"))


def put_other_hook(clone: Clone) -> Path:
    """Somebody else's, where libvirtd looks first."""
    return clone.put(HOOK, "#!/bin/sh\n# somebody else's\n")


# --- what is put in place ---


def test_all_is_named_put_in_place_and_taken_away(clone: Clone) -> None:
    """With the modes of root's programs; the dry run names each part and makes none, and --uninstall leaves nothing."""
    template = clone.here / "libhook/history/templates/page.html.j2"
    template.parent.mkdir(parents=True)
    template.write_text("{{ style }}")
    said = clone.run("--dry-run").stdout
    assert clone.files() == {}
    done = clone.run()
    assert (done.returncode, done.stderr) == (0, "")
    files, version = clone.files(), clone.version()
    assert Path(version).parent == Path(LIB, "versions")
    manuals = [f"{SHARE}/man/{name}" for name in MANUALS]
    named = [version, HOOK, "usr/local/bin/libhook", *COMPLETIONS, *manuals, f"{DOCUMENTS}/libhook.toml.sample"]
    assert [name for name in named if f"{clone.host}/{name}" not in said] == []
    modules = [f"libhook/{name}" for name in ("cli.py", "py.typed", "handlers/__init__.py")]
    page = "libhook/history/templates/page.html.j2"
    modes = {
        **dict.fromkeys([*named[3:], *(f"{version}/{name}" for name in (*modules, page))], 0o644),
        **dict.fromkeys([HOOK, "usr/local/bin/libhook", f"{version}/hooks/qemu", f"{version}/libhook/handlers"], 0o755),
        f"{version}/lock": 0o600,
    }
    assert {name: files[name][0] for name in modes} == modes
    assert files[f"{version}/{page}"][1] == b"{{ style }}"
    assert files[f"{version}/lock"][1] == b""
    assert f'"/{version}"' in files["usr/local/bin/libhook"][1].decode()
    assert [name for name in COMPLETIONS if b"/usr/local/bin/libhook" not in files[name][1]] == []
    made = {path.name: path.read_bytes() for path in (ROOT / "packaging/man").iterdir()}
    assert {Path(name).name: files[name][1] for name in manuals} == made
    assert {name for name in files if name.startswith(DOCUMENTS) and files[name][1]} == {
        f"{DOCUMENTS}/{name}" for name in ("README.md", "LICENSE", "docs/tutorial.md", "libhook.toml.sample")
    }
    assert [name for name in files if ".new" in name or ".gone" in name or name.startswith("etc/libhook")] == []
    assert f"rm -f -- {clone.host}/{HOOK}" in clone.run("--uninstall", "--dry-run").stdout
    assert clone.files() == files
    assert clone.run("--uninstall").returncode == 0
    assert clone.files() == {}


def test_modules_are_compiled_for_where_they_will_be(clone: Clone) -> None:
    """Each module has its bytecode, and a traceback names the installed file, not the build's folder."""
    clone.run("--prefix", "/usr")
    package = clone.host / clone.version() / "libhook"
    modules = sorted(package.rglob("*.py"))
    compiled = sorted(package.rglob("*.pyc"))
    assert len(modules) == len(compiled) > 0
    assert all(f"/{clone.version()}/libhook/".encode() in path.read_bytes() for path in compiled)
    assert not any(str(clone.host).encode() in path.read_bytes() for path in compiled)
    bundle = (package.parent / "bundle").read_bytes()
    assert bundle.count(f"/{clone.version()}/libhook/".encode()) == len(modules)
    assert str(clone.host).encode() not in bundle


def test_the_command_runs_isolated_from_the_place_it_was_built_for(clone: Clone, tmp_path: Path) -> None:
    """The command finds its package, passes arguments and exit code on, and ignores Python's environment."""
    prefix = tmp_path / "installed"
    clone.run("--prefix", str(prefix))
    (clone.host / str(prefix)[1:]).rename(prefix)
    done = subprocess.run([prefix / "bin/libhook", "status"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "['status'] 1\n")


def test_a_package_is_compiled_by_who_builds_it(tmp_path: Path) -> None:
    """No bytecode and no bundle are there, and the hook of the real clone serves a guest all the same."""
    prefix, root, image = tmp_path / "prefix", str(tmp_path / "root"), tmp_path / "image"
    command: list[str | Path] = [ROOT / "install.sh", "--no-compile", "--destdir", image, "--prefix", prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / f"image{prefix}").rename(prefix)
    (version,) = (prefix / "lib/libhook/versions").iterdir()
    assert list(version.rglob("*.pyc")) == []
    assert sorted(path.name for path in version.iterdir()) == ["hooks", "libhook", "lock"]
    patience.lengthen(version)
    build.build(root, workstation())
    xml, environment = (
        Guest("win11", (Assigned("0000:01:00.0"),)).xml(),
        {"PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": root},
    )
    for operation, driver in (("prepare begin", "vfio-pci"), ("release end", "e1000e")):
        words = [str(image / HOOK), "win11", *operation.split(), "-"]
        called = subprocess.run(words, input=xml, env=environment, capture_output=True, check=False)
        assert (called.returncode, called.stderr) == (0, b"")
        assert Path(root, "sys/bus/pci/devices/0000:01:00.0/driver").readlink().name == driver


def test_installing_twice_is_installing_once(clone: Clone) -> None:
    """A second run leaves exactly what the first did; a third takes in what changed in the clone, and what is gone."""
    clone.run()
    before = clone.files()
    assert clone.run().returncode == 0
    assert clone.files() == before
    (clone.here / "libhook/cli.py").write_text("changed = True\n")
    (clone.here / "libhook/py.typed").unlink()
    (clone.here / "docs/tutorial.md").rename(clone.here / "docs/other.md")
    clone.run()
    files, version = clone.files(), clone.version()
    assert files[f"{version}/libhook/cli.py"][1] == b"changed = True\n"
    assert f"{DOCUMENTS}/docs/other.md" in files
    assert {f"{version}/libhook/py.typed", f"{DOCUMENTS}/docs/tutorial.md"} & files.keys() == set()


# --- what stands in the way ---


@pytest.mark.parametrize("link", [False, True], ids=["a file", "a dangling link"])
def test_a_hook_of_somebody_else_is_left_alone(clone: Clone, link: bool) -> None:
    """Ours goes into qemu.d, and the user is told. Once the other has gone, ours moves there: it never runs twice."""
    other = put_other_hook(clone)
    if link:
        other.unlink()
        other.symlink_to("/nowhere/hook")
    assert "another hook is in" in clone.run().stdout
    assert other.is_symlink() if link else other.read_text().endswith("somebody else's\n")
    assert clone.files()[OUR_HOOK_IN_D][0] == 0o755
    other.unlink()
    clone.run()
    assert HOOK in clone.files()
    assert OUR_HOOK_IN_D not in clone.files()


def test_two_hooks_of_somebody_else_leave_no_place(clone: Clone) -> None:
    """A file that is called as ours would be is not overwritten; it is said before anything is changed."""
    put_other_hook(clone)
    other = clone.put(OUR_HOOK_IN_D, "#!/bin/sh\n# not ours\n")
    before = clone.files()
    assert f"{other} belongs to somebody else, too" in clone.run().stderr
    assert clone.files() == before


def test_another_prefix_need_not_be_remembered_and_is_the_only_one(clone: Clone) -> None:
    """The hook knows it, at the next installation and at --uninstall; the unit is where systemd looks."""
    clone.run("--prefix", "/opt/virt")
    before = clone.files()
    assert {f"etc/systemd/system/libhook-{name}.service" for name in ("watch", "recover")} <= set(before)
    assert clone.run().returncode == 0
    assert "installed below /opt/virt already" in clone.run("--prefix", "/usr").stderr
    assert clone.files() == before
    clone.run("--uninstall")
    assert clone.files() == {}


@pytest.mark.parametrize(
    "words",
    [
        *("--frob", "install", "--prefix", "--prefix relative", "'--prefix=/a b'", '"--prefix=/a\'b"', "--prefix /"),
        *("--prefix //", "--hook-dir", "--hook-dir relative", "--hook-dir /", "--hook-dir //", "'--hook-dir=/a$b'"),
        *("--destdir=", "--destdir //"),
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(clone: Clone, words: str) -> None:
    """What it does not understand it does not guess at."""
    done = clone.run(*shlex.split(words))
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:12]) == (2, 1, "install.sh: ")
    assert clone.files() == {}


def test_a_destdir_is_a_folder_however_it_is_written(clone: Clone, tmp_path: Path) -> None:
    """Relative to where install.sh is called, with slashes at its end, and with a blank in it."""
    clone.run()
    for name in ("image", "an image//"):
        command = [str(clone.here / "install.sh"), "--destdir", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        image = tmp_path / name.strip("/")
        assert {str(path.relative_to(image)) for path in image.rglob("*")} == set(clone.files())


def test_half_a_clone_is_refused(clone: Clone) -> None:
    """A missing launcher is found before anything is written."""
    (clone.here / "hooks/qemu").unlink()
    done = clone.run()
    assert (done.returncode, "hooks/qemu" in done.stderr) == (1, True)
    assert clone.files() == {}


@pytest.mark.parametrize("mode", [[], ["--uninstall"]])
def test_without_root_it_says_so(clone: Clone, mode: list[str]) -> None:
    """Changing the host needs root; a --destdir does not."""
    clone.fake("id", "echo 1000")
    done = clone.run(*mode, destdir=False)
    assert (done.returncode, "needs root" in done.stderr) == (1, True)
    assert clone.run(*mode).returncode == 0


@pytest.mark.parametrize(
    ("systemd", "knows", "asks"),
    [
        ("true", "is-enabled is-active", False),
        ("true", "is-enabled", True),
        ("true", "is-active", True),
        ("true", "", True),
        ("false", "", False),
    ],
)
def test_the_watch_is_offered_unless_it_runs_and_will_run(clone: Clone, systemd: str, knows: str, asks: bool) -> None:
    """Whoever has enabled it is not asked to. One that was started by hand is gone after the next boot.

    Without systemd, as below a --destdir, no systemctl helps.
    """
    clone.fake(
        "systemctl", f'[ "$1" = --quiet ] || exit 0\nfor verb in {knows}; do [ "$2" != $verb ] || exit 0; done; exit 3'
    )
    script = clone.here / "install.sh"
    script.write_text(re.sub(r"(?m)^has_systemd\(\).*$", f"has_systemd() {{ {systemd}; }}", script.read_text()))
    done = clone.run()
    assert done.returncode == 0, done.stderr
    assert ("systemctl enable --now libhook-watch" in done.stdout) == asks


# --- where shells look for completions ---


@pytest.mark.parametrize(
    ("prefix", "os_release", "folder"),
    [
        ("/usr/local", "ID=debian", "site-functions"),
        ("/usr", "ID=debian", "vendor-completions"),
        ("/usr", 'ID=linuxmint\nID_LIKE="ubuntu debian"', "vendor-completions"),
        ("/usr", "ID=fedora", "site-functions"),
        ("/usr", "ID=arch", "site-functions"),
        ("/opt/debian", "ID=debian", "site-functions"),
    ],
)
def test_the_zsh_of_each_distribution_finds_its_completion(
    clone: Clone, prefix: str, os_release: str, folder: str
) -> None:
    """Below /usr Debian's looks elsewhere than all others; below /usr/local each looks into one folder."""
    clone.distribution(os_release)
    assert clone.run("--prefix", prefix, "--no-compile").returncode == 0
    found = [path for path in clone.files() if path.endswith("/_libhook")]
    assert found == [f"{prefix[1:]}/share/zsh/{folder}/_libhook"]
    clone.run("--uninstall")
    assert clone.files() == {}


def test_this_zsh_looks_there() -> None:
    """What the test above expects of Debian, the zsh of this very machine says."""
    if "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        pytest.skip("this is not Debian")
    looks = set(subprocess.check_output(["zsh", "-f", "-c", "print -l $fpath"], text=True).splitlines())
    assert {"/usr/local/share/zsh/site-functions", "/usr/share/zsh/vendor-completions"} <= looks
    assert "/usr/share/zsh/site-functions" not in looks


def test_fish_finds_its_completion(clone: Clone, tmp_path: Path) -> None:
    """Also as root, who has no XDG_DATA_DIRS. Where an earlier version had put it, it is no more."""
    own = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    asked = ["fish", "-c", "printf '%s\\n' $fish_complete_path"]
    looks = subprocess.check_output(asked, text=True, env=own).splitlines()
    for prefix, folder in (("/usr/local", "/etc/fish/completions"), ("/usr", "/usr/share/fish/vendor_completions.d")):
        for again in ("--no-compile", "--uninstall"):
            clone.put(f"{prefix[1:]}/share/fish/vendor_completions.d/libhook.fish", "an earlier version's\n")
            assert clone.run("--prefix", prefix, again).returncode == 0
            found = [path for path in clone.files() if path.endswith(".fish")]
            assert found == ([] if again == "--uninstall" else [f"{folder[1:]}/libhook.fish"])
        assert folder in looks


def test_without_the_library_there_is_no_completion(clone: Clone) -> None:
    """It is said, and all else is installed."""
    python = clone.fake("python", 'case "$*" in *argcomplete*) exit 1 ;; esac; exec /usr/bin/python3 "$@"')
    clone.set("python", python)
    done = clone.run()
    assert (done.returncode, "the TAB key will not complete libhook's words" in done.stderr) == (0, True)
    assert clone.files().keys() & {HOOK, *COMPLETIONS} == {HOOK}


# --- the hook in another folder ---


def test_the_hook_moves(clone: Clone) -> None:
    """To wherever it is asked for, which is remembered, and back into libvirt's own folder, which need not be."""
    clone.run()
    before, memory = clone.files(), clone.host / LIB / "hook-dir"
    for folder in ("/opt/hooks", "/srv/hooks/"):
        for arguments in (["--hook-dir", folder], []):
            assert clone.run(*arguments).returncode == 0
            assert clone.hooks() == [f"{folder.strip('/')}/qemu"]
            assert memory.read_text() == f"{folder.rstrip('/')}\n"
    entry = clone.put("run/libhook/domains/5d1c", '{"name": "win11", "devices": [{"address": "0000:01:00.0"}]}')
    assert clone.run("--uninstall").returncode == 1
    assert (clone.host / "srv/hooks/qemu").stat().st_mode & 0o111
    entry.unlink()
    for arguments in (["--hook-dir", "/etc/libvirt/hooks"], []):
        assert clone.run(*arguments).returncode == 0
        assert clone.hooks() == [HOOK]
        assert not memory.exists()
    clone.run("--uninstall")
    assert clone.files().keys() <= {"run"}
    clone.run()
    assert {name: what for name, what in clone.files().items() if name != "run"} == before


@pytest.mark.parametrize("asked", ["/etc/libvirt/hooks", "/srv/hooks", "/opt/hooks"])
def test_no_hook_outlives_what_it_runs(clone: Clone, asked: str) -> None:
    """Whatever folder is named at --uninstall, the one that was remembered counts, too. Then nothing is."""
    clone.run("--hook-dir", "/opt/hooks")
    assert clone.run("--uninstall", "--hook-dir", asked).returncode == 0
    assert clone.files() == {}


@pytest.mark.parametrize("text", ["", "relative\n", "/a b\n", "/*b\n"])
def test_a_memory_that_names_no_folder_is_none(clone: Clone, text: str) -> None:
    """It was cut off, or somebody wrote to it."""
    clone.run()
    memory = clone.put(f"{LIB}/hook-dir", text)
    assert clone.run().returncode == 0
    assert (clone.hooks(), memory.exists()) == ([HOOK], False)


@pytest.mark.parametrize("asked", ["/etc/libvirt/hooks/.", "/srv/../etc/libvirt//hooks", "/srv/hooks", "/srv/link"])
def test_a_folder_by_another_name_is_the_same_folder(clone: Clone, asked: str) -> None:
    """The hook in it is not taken for another one: it stays, and libvirt's name need not be remembered."""
    (real := clone.host / "srv/hooks").mkdir(parents=True)
    (libvirts := clone.host / "etc/libvirt").mkdir(parents=True)
    (libvirts / "hooks").symlink_to(real)
    (clone.host / "srv/link").symlink_to("hooks")
    for arguments in ([], ["--hook-dir", asked], []):
        assert clone.run(*arguments).returncode == 0
        assert clone.hooks() == ["srv/hooks/qemu"]
        assert not (clone.host / LIB / "hook-dir").exists()
    clone.put(f"{LIB}/hook-dir", f"{asked}\n")
    assert clone.run().returncode == 0
    assert clone.hooks() == ["srv/hooks/qemu"]
    assert clone.run("--uninstall").returncode == 0
    assert clone.hooks() == []


def test_a_link_to_the_hook_stays_where_libvirtd_runs_it_once(clone: Clone) -> None:
    """In libvirt's own folder it is the administrator's; in qemu.d beside the hook it would run the hook twice."""
    (link := clone.host / HOOK).parent.mkdir(parents=True)
    link.symlink_to("../../../opt/hooks/qemu")
    (twice := clone.host / "opt/hooks/qemu.d/libhook").parent.mkdir(parents=True)
    assert clone.run("--hook-dir", "/opt/hooks").returncode == 0
    twice.symlink_to("../qemu")
    assert clone.run().returncode == 0
    assert (clone.host / "opt/hooks/qemu").exists()
    assert (link.is_symlink(), twice.is_symlink()) == (True, False)


@pytest.mark.parametrize(
    ("prefix", "before", "to"),
    [
        ("/usr/local", "/etc/libvirt/hooks", "/srv/hooks"),
        ("/usr/local", "/opt/hooks", "/srv/hooks"),
        ("/opt/virt", "/etc/libvirt/hooks", "/srv/hooks"),
        ("/opt/virt", "/opt/hooks", "/etc/libvirt/hooks"),
    ],
)
@pytest.mark.parametrize("moment", ["before mv", "after mv", "before rm", "after rm"])
def test_a_move_that_is_killed_leaves_no_hook_behind(
    clone: Clone, prefix: str, before: str, to: str, moment: str
) -> None:
    """Wherever it was stopped, the next install.sh or --uninstall knows both folders."""
    both = [f"{folder.strip('/')}/qemu" for folder in (before, to)]
    clone.run("--no-compile", "--prefix", prefix, "--hook-dir", before)
    assert clone.hooks() == both[:1]
    when, name = moment.split()
    killed = clone.host / both[name == "mv"]
    kill = f'for last; do [ "$last" != {killed} ] || kill -9 $PPID $$; done'
    real = f'/usr/bin/{name} "$@"'
    fake = clone.fake(name, f"{kill}\n{real}" if when == "before" else f"{real}\n{kill}")
    assert clone.run("--no-compile", "--prefix", prefix, "--hook-dir", to).returncode == -9
    fake.unlink()
    found = clone.hooks()
    assert set(found) == set(both[:1] if moment == "before mv" else both[1:] if moment == "after rm" else both)
    known = [] if prefix == "/usr/local" or HOOK in found else ["--prefix", prefix]  # the hook would say the prefix
    shutil.copytree(clone.host, again := clone.host.with_name("again"), symlinks=True)
    assert clone.run("--no-compile", *known).returncode == 0
    assert clone.hooks() == both[1:]
    clone.host = again
    assert clone.run("--uninstall", *known).returncode == 0
    assert clone.hooks() == []


# --- packages ---

EVERYTHING = "lxml structlog audit systemd libvirt hwdata rich jinja2 argcomplete"
NEEDED = "python3-lxml python3-structlog python3-audit python3-systemd python3-libvirt"
OF_ARCH = "lxml python-structlog python-audit python-systemd libvirt-python hwdata python-rich python-jinja2"
OF_SUSE = "lxml python313-structlog python3-audit python313-systemd python3-libvirt-python hwdata python313-rich"
MINT, SUSE = 'ID=linuxmint\nID_LIKE="ubuntu debian"', 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"'


@pytest.mark.parametrize(
    ("os_release", "misses", "command"),
    [
        ("ID=debian", EVERYTHING, f"-recommends {NEEDED} hwdata python3-rich python3-jinja2 python3-argcomplete\n"),
        (MINT, EVERYTHING, "apt-get install -y -qq --no-install-recommends python3-lxml "),
        ("ID=fedora", EVERYTHING, f"dnf install -y -q {NEEDED} "),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', EVERYTHING, "dnf install -y -q python3-lxml "),
        ("ID=arch", EVERYTHING, f"pacman -S --noconfirm --needed python-{OF_ARCH} python-argcomplete\n"),
        (SUSE, EVERYTHING, f" python313-{OF_SUSE} python313-jinja2 python313-argcomplete\n"),
        ('ID=unknown\nID_LIKE="suse"', EVERYTHING, "zypper --non-interactive --quiet install "),
        ("ID=debian", "audit", "apt-get install -y -qq --no-install-recommends python3-audit\n"),
        ("ID=debian", "/nowhere/python3", "--no-install-recommends python3 python3-lxml "),
        ("ID=debian", "", ""),
        ("ID=plan9", "lxml", "by hand"),
    ],
)
def test_each_distribution_has_its_own_names(clone: Clone, os_release: str, misses: str, command: str) -> None:
    """The distribution is found by ID, or else by what it is like, and only what Python lacks is asked for.

    Python itself is a package, too. Where no package manager is known, that is said.
    """
    if misses.startswith("/"):
        clone.set("python", misses)
    else:
        clone.python_that_misses(*misses.split())
    clone.distribution(os_release)
    done = clone.run("--dry-run", destdir=False)
    assert done.returncode == (os_release == "ID=plan9")
    assert command in done.stdout + done.stderr
    assert command or "apt-get" not in done.stdout
    assert clone.files() == {}, "a temporary file is left"


@pytest.mark.parametrize(
    ("misses", "user", "apt", "code", "said", "calls"),
    [
        (f"OLD {EVERYTHING}", 0, "", 1, "Python 3.10.12, libhook needs 3.11", []),
        ("structlog", 1000, "", 1, r"\(structlog missing\) needs root", []),
        ("structlog", 0, "exit 100", 0, "no .*structlog for", ["python3-structlog"]),
        ("systemd", 0, "exit 100", 0, "no .*systemd for", ["python3-systemd"]),
        (
            "lxml audit",
            0,
            'case "$*" in *audit*) exit 100 ;; esac',
            1,
            "still cannot import lxml audit",
            ["python3-lxml python3-audit", "python3-lxml", "python3-audit"],
        ),
    ],
    ids=["old Python", "no root", "no structlog", "no journal", "one package does not exist"],
)
def test_what_cannot_be_installed_is_named(
    clone: Clone, misses: str, user: int, apt: str, code: int, said: str, calls: list[str]
) -> None:
    """Nothing is installed for a Python that is too old. Each package is tried alone where all together fail.

    Without the journal's bindings there is syslog, without structlog a plain log: a warning, not an error.
    """
    clone.python_that_misses(*misses.removeprefix("OLD ").split(), version_is_fine=not misses.startswith("OLD"))
    clone.distribution("ID=debian")
    clone.fake("id", f"echo {user}")
    clone.fake("apt-get", f'echo "$@" >>{clone.bin}/apt.log\n{apt}')
    done = clone.run("--demo", destdir=False)
    assert done.returncode == code
    assert re.search(said, done.stderr)
    log = clone.bin / "apt.log"
    called = [line.rpartition("recommends ")[2] for line in log.read_text().splitlines()] if log.exists() else []
    assert list(dict.fromkeys(called)) == (["update -qq", *calls] if calls else [])
    assert clone.files() == {}


def test_the_demo_does_not_want_the_libvirt_bindings(clone: Clone) -> None:
    """Only an installation asks whether they are there."""
    asked = clone.host / "asked"
    clone.set(
        "python", clone.fake("fake-python", f'case "$*" in *import_module*) echo "${{4-}} ${{5-}}" >>{asked} ;; esac')
    )
    clone.distribution("ID=debian")
    assert clone.run("--demo", destdir=False).stderr == ""
    clone.run("--dry-run", destdir=False)
    assert asked.read_text() == " \nlibvirt hwdata\n"


def test_the_demo_needs_no_root_where_the_packages_are(clone: Clone) -> None:
    """--demo plays from the clone, with the distribution's own Python, and leaves the host alone."""
    clone.fake("id", "echo 1000")
    done = clone.run("--demo", destdir=False)
    assert (done.returncode, done.stdout) == (0, "demo plays ['demo']\n"), done.stderr
    assert clone.files() == {}


COMMANDS_NEED = {
    "libvirt": "attach, detach and watch do not work",
    "hwdata": "by their ids alone",
    "rich": "plain text",
    "jinja2": "history --html does not work",
}


@pytest.mark.parametrize("os_release", ["ID=debian", "ID=plan9"])
@pytest.mark.parametrize("module", COMMANDS_NEED)
def test_without_what_some_commands_need_an_installation_goes_on(clone: Clone, os_release: str, module: str) -> None:
    """Where no package brings them, or nobody knows of one, that is said, and no more."""
    clone.python_that_misses(module)
    clone.distribution(os_release)
    clone.fake("apt-get", "exit 100")
    first, mark, _ = (clone.here / "install.sh").read_text().partition("# --- files ---")
    assert mark, "all of the script would install on this very host"
    (clone.here / "part.sh").write_text(first + "install_packages $for_commands\necho goes on\n")
    environment = {"PATH": f"{clone.bin}:/usr/bin:/bin"}
    command = ["/bin/sh", str(clone.here / "part.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "goes on")
    assert (COMMANDS_NEED[module] if os_release == "ID=debian" else "is not Debian") in done.stderr


# --- SELinux, asked by libhook's own code from the clone before the hook is put in place ---

LABELS = {"/": "virt_hook_t", "/bin/sh": "shell_exec_t", "/sys/bus/pci/drivers_probe": "sysfs_t"}
OPENED = ("open", "read", "execute")
REFUSED = "install.sh: the hook is not installed: follow the advice above, then run this again\n"
MAY, MAY_NOT = ("getattr", *OPENED, "execute_no_trans"), ("getattr", "open", "read")
LACKS = "fail  SELinux lets virtqemud run the hook, but does not let the hook write to /sys"


def policy(*hook: str, sysfs: Sequence[str] = ()) -> Policy:
    """What virtqemud may do with the hook, and that with /sys."""
    rules = {"shell_exec_t": OPENED, "virt_hook_t": hook, "sysfs_t": sysfs}
    files = {f"virtqemud_t {target} file": may for target, may in rules.items()}
    return Policy(LABELS, {**files, "virtqemud_t virt_hook_t dir": ("search",)})


@pytest.mark.parametrize(
    ("asked", "enforce", "broken", "refused", "said"),
    [
        (None, "1", "", False, ""),
        (policy(*MAY, sysfs=("open", "write")), "1", "", False, ""),
        (policy(*MAY), "1", "", False, LACKS),
        (policy(*MAY_NOT), "1", "", True, "setsebool -P virt_hooks_unconfined on; semodule -i {module}\n"),
        (policy(*MAY_NOT), "1", "daemon", True, "note  cannot find out whether SELinux lets virtqemud run the hook: "),
        (policy(*MAY_NOT), "0", "", False, "note  "),
        (policy(), "1", "clone", True, "SyntaxError"),
        (policy(), "1", "--destdir", False, ""),
    ],
    ids=["no SELinux", "may", "may not write", "may not run", "unknown", "permissive", "no Python", "for others"],
)
def test_selinux_is_asked_before_the_hook_is_put_in_place(
    clone: Clone, root: str, asked: Policy | None, enforce: str, broken: str, refused: bool, said: str
) -> None:
    """A hook that it may not execute would end every guest that runs when virtqemud next starts.

    Nothing is changed then, and what helps is said. Who builds a package for others has another kernel than they.
    """
    shutil.copytree(ROOT / "libhook", clone.here / "libhook", dirs_exist_ok=True)
    build.build(root, World(()))
    processes.add(root, 700, "virtqemud")
    confine(root, 700, "virtqemud_t")
    Path(root, "run/virtqemud.pid").write_text("700\n")
    clone.set("selinuxfs", f"{root}/sys/fs/selinux")
    # What install.sh calls must heed no LIBHOOK_ROOT of the administrator's: whose kernel is asked is said here.
    own = f'[ -z "$LIBHOOK_ROOT" ] && LIBHOOK_ROOT={root} exec /usr/bin/python3 "$@"'
    if broken != "--destdir":
        clone.set("python", clone.fake("python", own))
    if asked:
        set_up(root, asked, enforce=enforce, booleans=["virt_hooks_unconfined"])
    if broken == "daemon":
        Path(root, "proc/700/attr/current").unlink()
    if broken == "clone":
        (clone.here / "libhook/command/doctor.py").write_text("def broken(:\n")
    if broken == "--destdir":
        assert clone.run().returncode == 0
        return
    done = clone.run("--dry-run", "--prefix", "/usr", destdir=False)
    assert (done.returncode, done.stderr) == ((1, REFUSED) if refused else (0, ""))
    assert ("would write: /etc/libvirt/hooks/qemu" in done.stdout) is not refused
    module = clone.here / "libhook/libhook_virtqemud.cil"
    assert module.exists()
    assert said.format(module=module) in done.stdout
    assert said or "SELinux" not in done.stdout


# --- --uninstall and --purge ---


@pytest.mark.parametrize("with_other_hook", [False, True])
def test_uninstall_leaves_nothing(clone: Clone, with_other_hook: bool) -> None:
    """After --uninstall the host is as it was, to the last folder, and a second one does no harm."""
    (clone.host / "usr/local/bin").mkdir(parents=True)
    if with_other_hook:
        put_other_hook(clone)
    before = clone.files()
    clone.run()
    clone.run()
    clone.put("run/libhook/lock")
    done = clone.run("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    (clone.host / "run").rmdir()
    assert clone.files() == before
    assert clone.run("--uninstall").returncode == 0
    assert clone.files() == before


def test_purge_takes_what_uninstall_keeps(clone: Clone) -> None:
    """What the administrator wrote stays as it is, and the notes of guests' devices; --uninstall mentions both."""
    before = clone.files()
    clone.put("etc/libhook/config.toml", "dry_run = true\n")
    clone.put("etc/libhook/config.d/a.toml")
    clone.put("var/lib/libhook/devices/x.json")
    kept = clone.files()
    clone.run()
    said = clone.run("--uninstall").stdout
    for what in ("etc/libhook/config.toml", "etc/libhook/config.d"):
        assert f"you wrote it: {clone.host}/{what}\n" in said
    assert f"kept, what guests' devices were: {clone.host}/var/lib/libhook" in said
    assert clone.files() == kept
    done = clone.run("--purge")
    assert (done.returncode, "--prefix and --hook-dir" in done.stderr) == (1, True)
    assert clone.files() == kept
    clone.run()
    done = clone.run("--purge")
    assert (done.returncode, done.stderr, "kept" in done.stdout) == (0, "", False)
    for name in ("etc", "var/lib", "var"):
        (clone.host / name).rmdir()
    assert clone.files() == before


@pytest.mark.parametrize("there", [(), ("etc/libhook",), ("etc/libhook", "var/lib/libhook")])
@pytest.mark.parametrize("name", ["image", "an image", "x;id"])
def test_what_purge_offers_is_below_the_destdir(
    clone: Clone, tmp_path: Path, there: tuple[str, ...], name: str
) -> None:
    """The host's own settings are never in that command, nor what is not there, nor a name that a shell would read."""
    clone.host = tmp_path / name
    for folder in there:
        (clone.host / folder).mkdir(parents=True)
    done = clone.run("--purge")
    how = "run: rm -r" if name == "image" else "remove by hand:"
    offer = " ".join((f"; if it is nowhere, {how}", *(f"{clone.host}/{folder}" for folder in there)))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"install.sh: no libhook is below {clone.host}/usr/local: name its folders with --prefix and --hook-dir,"
        f" as at the installation{offer if there else ''}\n"
    )
    assert all((clone.host / folder).exists() for folder in there)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ('{"uuid": "5d1c", "name": "win\\u001b[2J11", "phase": "started", "devices": [{"move": null}]}', "win[2J11"),
        ("", "5d1c"),
        ('{"name": "win11", "phase": "refused", "devices": []}', ""),
    ],
    ids=["a guest", "a torn entry", "a guest that was refused"],
)
def test_uninstall_is_refused_while_a_guest_holds_a_device(clone: Clone, entry: str, named: str) -> None:
    """Nothing is removed, and the guest, or else its file, is named without what a terminal would obey."""
    clone.run()
    clone.put("run/libhook/domains/5d1c", entry)
    before = clone.files()
    done = clone.run("--uninstall")
    assert done.returncode == bool(named)
    assert named in done.stderr
    assert "\x1b" not in done.stderr
    assert (clone.files() == before) if named else not (clone.host / "run/libhook").exists()
