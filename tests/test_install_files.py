# SPDX-License-Identifier: LGPL-2.1-or-later
"""What install.sh puts beside the package, and its options for packagers."""

import os
import shutil
import subprocess
from pathlib import Path

import patience
import pytest
from test_install import HOOK, LIB, ROOT, Clone

from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation

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


def test_all_of_it_is_named_put_in_place_and_taken_away(clone: Clone) -> None:
    """Completions that ask this very command, manual pages, documents; the dry run names each, and nothing is left."""
    said = clone.run("--dry-run").stdout
    assert (done := clone.run()).stderr == "", done.stderr
    files = clone.files()
    named = {path.name: path.read_bytes() for path in (ROOT / "packaging/man").iterdir()}
    assert {name.partition("/")[2]: files[f"{SHARE}/man/{name}"][1] for name in MANUALS} == named
    assert {name for name in files if name.startswith(DOCUMENTS) and files[name][1]} == {
        f"{DOCUMENTS}/{name}" for name in ("README.md", "LICENSE", "docs/tutorial.md", "libhook.toml.sample")
    }
    for name in COMPLETIONS:
        assert b"/usr/local/bin/libhook" in files[name][1]
    for name in (*COMPLETIONS, *[f"{SHARE}/man/{name}" for name in MANUALS], f"{DOCUMENTS}/libhook.toml.sample"):
        assert f"would write: {clone.host}/{name}\n" in said
        assert files[name][0] == 0o644
    assert clone.run("--uninstall").returncode == 0
    assert clone.files() == {}


def test_nothing_is_written_to_the_configuration(clone: Clone) -> None:
    """What an administrator has there stays, byte for byte; where nothing is, nothing comes."""
    clone.run()
    assert not (clone.host / "etc/libhook").exists()
    (clone.host / "etc/libhook").mkdir()
    (clone.host / "etc/libhook/config.toml").write_text("dry_run = true\n")
    clone.run()
    clone.run("--uninstall")
    assert (clone.host / "etc/libhook/config.toml").read_text() == "dry_run = true\n"


def test_a_page_that_is_no_more_goes_with_the_upgrade(clone: Clone) -> None:
    """The documents are those of the version that is installed."""
    clone.run()
    (clone.here / "docs/tutorial.md").rename(clone.here / "docs/other.md")
    clone.run()
    assert not (clone.host / f"{DOCUMENTS}/docs/tutorial.md").exists()
    assert (clone.host / f"{DOCUMENTS}/docs/other.md").exists()


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
    said = subprocess.run(["zsh", "-f", "-c", "print -l $fpath"], capture_output=True, text=True, check=True)
    looks = set(said.stdout.splitlines())
    assert {"/usr/local/share/zsh/site-functions", "/usr/share/zsh/vendor-completions"} <= looks
    assert "/usr/share/zsh/site-functions" not in looks


def test_fish_finds_its_completion(clone: Clone, tmp_path: Path) -> None:
    """Also as root, who has no XDG_DATA_DIRS. Where an earlier version had put it, it is no more."""
    own = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    asked = ["fish", "-c", "printf '%s\\n' $fish_complete_path"]
    looks = subprocess.run(asked, capture_output=True, text=True, check=True, env=own).stdout.splitlines()
    for prefix, folder in (("/usr/local", "/etc/fish/completions"), ("/usr", "/usr/share/fish/vendor_completions.d")):
        before = clone.host / f"{prefix[1:]}/share/fish/vendor_completions.d/libhook.fish"
        before.parent.mkdir(parents=True)
        for again in ("--no-compile", "--uninstall"):
            before.write_text("an earlier version's\n")
            assert clone.run("--prefix", prefix, again).returncode == 0
            found = [path for path in clone.files() if path.endswith(".fish")]
            assert found == ([] if again == "--uninstall" else [f"{folder[1:]}/libhook.fish"])
        assert folder in looks


def test_without_the_library_there_is_no_completion(clone: Clone) -> None:
    """It is said, and all else is installed."""
    clone.set(
        "python",
        clone.fake("python", 'case "$*" in *argcomplete*) exit 1 ;; esac; exec /usr/bin/python3 "$@"'),
    )
    done = clone.run()
    assert done.returncode == 0
    assert "the TAB key will not complete libhook's words" in done.stderr
    assert [name for name in COMPLETIONS if (clone.host / name).exists()] == []
    assert (clone.host / HOOK).exists()


def test_the_hook_may_be_elsewhere(clone: Clone) -> None:
    """It is remembered for the next time, and there is never a second one."""
    clone.run("--hook-dir", "/opt/hooks")
    before = clone.files()
    assert "opt/hooks/qemu" in before
    assert HOOK not in before
    assert clone.run().returncode == 0
    assert clone.files() == before
    clone.guest_holds('{"name": "win11", "devices": [{"address": "0000:01:00.0"}]}')
    assert clone.run("--uninstall").returncode == 1
    assert (clone.host / "opt/hooks/qemu").stat().st_mode & 0o111
    (clone.host / "run/libhook/domains/5d1c").unlink()
    clone.run("--uninstall")
    assert clone.files().keys() <= {"run"}


def hooks(clone: Clone) -> list[str]:
    """Where our hook is."""
    return [name for name in clone.files() if name.endswith("hooks/qemu") and "/versions/" not in name]


def test_the_hook_moves(clone: Clone) -> None:
    """To wherever it is asked for, and back into libvirt's own folder, which need not be remembered."""
    clone.run()
    before = clone.files()
    for folder in ("/opt/hooks", "/srv/hooks/"):
        assert clone.run("--hook-dir", folder).returncode == 0
        assert hooks(clone) == [f"{folder.strip('/')}/qemu"]
        assert (clone.host / LIB / "hook-dir").read_text() == f"{folder.rstrip('/')}\n"
    assert clone.run("--hook-dir", "/etc/libvirt/hooks").returncode == 0
    assert hooks(clone) == [HOOK]
    assert not (clone.host / LIB / "hook-dir").exists()
    assert clone.run().returncode == 0
    assert hooks(clone) == [HOOK]
    clone.run("--uninstall")
    assert clone.files() == {}
    clone.run()
    assert clone.files() == before


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
    (clone.host / LIB / "hook-dir").write_text(text)
    assert clone.run().returncode == 0
    assert hooks(clone) == [HOOK]
    assert not (clone.host / LIB / "hook-dir").exists()


@pytest.mark.parametrize("asked", ["/etc/libvirt/hooks/.", "/srv/../etc/libvirt//hooks", "/srv/hooks", "/srv/link"])
def test_a_folder_by_another_name_is_the_same_folder(clone: Clone, asked: str) -> None:
    """The hook in it is not taken for another one: it stays, and libvirt's name need not be remembered."""
    (real := clone.host / "srv/hooks").mkdir(parents=True)
    (libvirts := clone.host / "etc/libvirt").mkdir(parents=True)
    (libvirts / "hooks").symlink_to(real)
    (clone.host / "srv/link").symlink_to("hooks")
    for arguments in ([], ["--hook-dir", asked], []):
        assert clone.run(*arguments).returncode == 0
        assert hooks(clone) == ["srv/hooks/qemu"]
        assert not (clone.host / LIB / "hook-dir").exists()
    (clone.host / LIB / "hook-dir").write_text(f"{asked}\n")
    assert clone.run().returncode == 0
    assert hooks(clone) == ["srv/hooks/qemu"]
    assert clone.run("--uninstall").returncode == 0
    assert hooks(clone) == []


def test_a_link_to_the_hook_stays_where_libvirtd_runs_it_once(clone: Clone) -> None:
    """In libvirt's own folder it is the administrator's; in qemu.d beside the hook it would run the hook twice."""
    (link := clone.host / HOOK).parent.mkdir(parents=True)
    link.symlink_to("../../../opt/hooks/qemu")
    (twice := clone.host / "opt/hooks/qemu.d/libhook").parent.mkdir(parents=True)
    assert clone.run("--hook-dir", "/opt/hooks").returncode == 0
    twice.symlink_to("../qemu")
    assert clone.run().returncode == 0
    assert (clone.host / "opt/hooks/qemu").exists()
    assert link.is_symlink()
    assert not twice.is_symlink()


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
    assert hooks(clone) == both[:1]
    when, name = moment.split()
    killed = clone.host / both[name == "mv"]
    kill = f'for last; do [ "$last" != {killed} ] || kill -9 $PPID $$; done'
    real = f'/usr/bin/{name} "$@"'
    fake = clone.fake(name, f"{kill}\n{real}" if when == "before" else f"{real}\n{kill}")
    assert clone.run("--no-compile", "--prefix", prefix, "--hook-dir", to).returncode == -9
    fake.unlink()
    found = hooks(clone)
    assert set(found) == set(both[:1] if moment == "before mv" else both[1:] if moment == "after rm" else both)
    known = [] if prefix == "/usr/local" or HOOK in found else ["--prefix", prefix]  # the hook would say the prefix
    shutil.copytree(clone.host, again := clone.host.with_name("again"), symlinks=True)
    assert clone.run("--no-compile", *known).returncode == 0
    assert hooks(clone) == both[1:]
    clone.host = again
    assert clone.run("--uninstall", *known).returncode == 0
    assert hooks(clone) == []


def test_a_package_is_compiled_by_who_builds_it(tmp_path: Path) -> None:
    """No bytecode and no bundle are there, and the hook of the real clone serves a guest all the same."""
    prefix, root = tmp_path / "prefix", str(tmp_path / "root")
    done = subprocess.run(
        [ROOT / "install.sh", "--no-compile", "--destdir", tmp_path / "image", "--prefix", prefix],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / f"image{prefix}").rename(prefix)
    (version,) = (prefix / "lib/libhook/versions").iterdir()
    assert list(version.rglob("*.pyc")) == []
    assert sorted(path.name for path in version.iterdir()) == ["hooks", "libhook", "lock"]
    patience.lengthen(version)
    build(root, workstation())
    xml = Guest("win11", (Assigned("0000:01:00.0"),)).xml()
    for operation in ("prepare begin", "release end"):
        called = subprocess.run(
            [tmp_path / "image" / HOOK, "win11", *operation.split(), "-"],
            input=xml,
            env={"PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": root},
            capture_output=True,
            check=False,
        )
        assert (called.returncode, called.stderr) == (0, b"")
        driver = Path(root, "sys/bus/pci/devices/0000:01:00.0/driver").readlink().name
        assert driver == ("vfio-pci" if operation.startswith("prepare") else "e1000e")
