# SPDX-License-Identifier: LGPL-2.1-or-later
"""install.sh, run from a copy of the clone whose package and launcher are stand-ins, below a --destdir.

What is fixed in it (the interpreter, /etc/os-release) is edited in the copy: a script that root runs should
not take such things from the environment. What needs a real host is tested in the lab.
"""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOOK = "etc/libvirt/hooks/qemu"
OUR_HOOK_IN_D = "etc/libvirt/hooks/qemu.d/libhook"
COMPLETION = "usr/local/share/bash-completion/completions/libhook"
LIB = "usr/local/lib/libhook"
MAIN = "import sys\ndef main():\n    print(sys.argv[1:], sys.flags.isolated)\n    return 3\n"
LAUNCHER = '#!/bin/sh\n# libhook\'s\nlib=$(dirname "$0")/.. # install.sh sets this\n'


class Clone:
    """A clone, the folder that plays the host, and programs put before the real ones."""

    def __init__(self, folder: Path) -> None:
        self.here = folder / "clone"
        self.host = folder / "host"
        self.bin = folder / "bin"
        parts = [self.here / part for part in ("libhook/handlers", "libhook/children", "hooks")]
        for made in (self.host, self.bin, *parts):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "install.sh", self.here)
        shutil.copytree(ROOT / "packaging", self.here / "packaging")
        for name in ("__init__.py", "py.typed", "handlers/__init__.py"):
            (self.here / "libhook" / name).touch()
        for name in ("bundle.py", "children/version.py"):
            shutil.copy(ROOT / "libhook" / name, self.here / "libhook" / name)
        (self.here / "libhook/cli.py").write_text(MAIN)
        (self.here / "libhook/__main__.py").write_text("import sys\nprint('demo plays', sys.argv[1:])\n")
        (self.here / "hooks/qemu").write_text(LAUNCHER)
        (self.here / "docs").mkdir()
        for name in ("README.md", "LICENSE", "docs/tutorial.md"):
            (self.here / name).write_text(f"{name}\n")

    def run(self, *arguments: str, destdir: bool = True) -> subprocess.CompletedProcess[str]:
        """Call install.sh, below the host's folder unless told otherwise."""
        where = ["--destdir", str(self.host)] if destdir else []
        return subprocess.run(
            [str(self.here / "install.sh"), *where, *arguments],
            env={"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(self.host)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def fake(self, name: str, script: str) -> Path:
        """Put a program before the one of that name."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def set(self, constant: str, value: object) -> None:
        """Change what the scripts have fixed."""
        changed = 0
        for script in (self.here / "install.sh", self.here / "packaging/distribution.sh"):
            text, count = re.subn(rf"(?m)^{constant}=.*$", f"{constant}={value}", script.read_text())
            script.write_text(text)
            changed += count
        assert changed == 1, f"{constant} is set {changed} times"

    def python_that_misses(self, *modules: str, version_is_fine: bool = True) -> None:
        """Let the interpreter be one that cannot import these."""
        self.set(
            "python",
            self.fake(
                "fake-python",
                f"""case "$*" in
                *import_module*) for m in {" ".join(modules)}; do echo "$m"; done ;;
                *'sys.exit(sys.version_info'*) exit {0 if version_is_fine else 1} ;;
                *%d%d*) echo 313 ;;
                *-V*) echo "Python 3.10.12" ;;
                esac""",
            ),
        )

    def distribution(self, os_release: str) -> None:
        """Let the host be of this distribution."""
        (self.here / "os-release").write_text(os_release)
        self.set("os_release", self.here / "os-release")

    def guest_holds(self, entry: str) -> None:
        """Leave a guest's state."""
        domains = self.host / "run/libhook/domains"
        domains.mkdir(parents=True, exist_ok=True)
        (domains / "5d1c").write_text(entry)

    def version(self) -> str:
        """The folder that the hook names, as the host knows it."""
        (found,) = re.findall(r"(?m)^lib=/(.*) # install.sh sets this$", (self.host / HOOK).read_text())
        return str(found)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Everything on the host: path, mode, and for files the content."""
        return {
            str(path.relative_to(self.host)): (
                stat.S_IMODE(path.lstat().st_mode),
                path.read_bytes() if path.is_file() and path.suffix != ".pyc" else b"",
            )
            for path in self.host.rglob("*")
        }


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def put_other_hook(clone: Clone) -> Path:
    """Somebody else's, where libvirtd looks first."""
    hook = clone.host / HOOK
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n# somebody else's\n")
    return hook


def test_puts_package_command_and_hook_in_place(clone: Clone) -> None:
    """The three parts are there with the modes of a root-owned program, and the hook knows its package."""
    done = clone.run()
    assert (done.returncode, done.stderr) == (0, "")
    files, version = clone.files(), clone.version()
    assert {files[f"{version}/libhook/{name}"][0] for name in ("cli.py", "py.typed", "handlers/__init__.py")} == {0o644}
    assert files[f"{version}/libhook/handlers"][0] == files[f"{version}/hooks/qemu"][0] == 0o755
    assert files[f"{version}/lock"] == (0o600, b"")
    assert files["usr/local/bin/libhook"][0] == files[HOOK][0] == 0o755
    assert files[COMPLETION][0] == 0o644
    assert Path(version).parent == Path(LIB, "versions")
    assert f'"/{version}"' in files["usr/local/bin/libhook"][1].decode()
    assert not [name for name in files if ".new" in name or ".gone" in name]


def test_what_is_no_module_is_installed_too(clone: Clone) -> None:
    """As the template of a page, readable for all."""
    template = clone.here / "libhook/history/templates/page.html.j2"
    template.parent.mkdir(parents=True)
    template.write_text("{{ style }}")
    assert clone.run().returncode == 0
    found = {path: what for path, what in clone.files().items() if path.endswith("page.html.j2")}
    assert [(mode, content) for mode, content in found.values()] == [(0o644, b"{{ style }}")]


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


def test_installing_twice_is_installing_once(clone: Clone) -> None:
    """A second run leaves exactly what the first did, and takes in what changed in the clone."""
    clone.run()
    before = clone.files()
    assert clone.run().returncode == 0
    assert clone.files() == before
    (clone.here / "libhook/cli.py").write_text("changed = True\n")
    (clone.here / "libhook/py.typed").unlink()
    clone.run()
    assert clone.files()[f"{clone.version()}/libhook/cli.py"][1] == b"changed = True\n"
    assert f"{clone.version()}/libhook/py.typed" not in clone.files()


def test_dry_run_says_everything_and_changes_nothing(clone: Clone) -> None:
    """Every file that an installation makes is named by its dry run, which makes none."""
    said = clone.run("--dry-run").stdout
    assert clone.files() == {}
    clone.run()
    for name in (HOOK, COMPLETION, "usr/local/bin/libhook", clone.version()):
        assert name in clone.files()
        assert f"{clone.host}/{name}" in said
    before = clone.files()
    assert f"rm -f -- {clone.host}/{HOOK}" in clone.run("--uninstall", "--dry-run").stdout
    assert clone.files() == before


def test_a_hook_of_somebody_else_is_left_alone(clone: Clone) -> None:
    """Where another qemu hook stands, ours goes into qemu.d and the user is told."""
    other = put_other_hook(clone)
    done = clone.run()
    assert "another hook is in" in done.stdout
    assert other.read_text().endswith("somebody else's\n")
    assert clone.files()[OUR_HOOK_IN_D][0] == 0o755


def test_a_dangling_link_is_somebody_elses_hook(clone: Clone) -> None:
    """A link to a file that is away for the moment is not overwritten either."""
    other = put_other_hook(clone)
    other.unlink()
    other.symlink_to("/nowhere/hook")
    clone.run()
    assert other.is_symlink()
    assert OUR_HOOK_IN_D in clone.files()


def test_two_hooks_of_somebody_else_leave_no_place(clone: Clone) -> None:
    """A file that is called as ours would be is not overwritten; it is said before anything is changed."""
    other = put_other_hook(clone).parent / "qemu.d/libhook"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n# not ours\n")
    before = clone.files()
    assert f"{other} belongs to somebody else, too" in clone.run().stderr
    assert clone.files() == before


def test_libvirtd_never_runs_the_hook_twice(clone: Clone) -> None:
    """When the other hook has gone, ours moves to its place instead of standing in both."""
    other = put_other_hook(clone)
    clone.run()
    other.unlink()
    clone.run()
    assert HOOK in clone.files()
    assert OUR_HOOK_IN_D not in clone.files()


def test_another_prefix_need_not_be_remembered_and_is_the_only_one(clone: Clone) -> None:
    """The hook knows it, at the next installation and at --uninstall; the unit is where systemd looks."""
    clone.run("--prefix", "/opt/virt")
    before = clone.files()
    assert {f"etc/systemd/system/libhook-{name}.service" for name in ("watch", "recover", "awake")} <= set(before)
    assert clone.run().returncode == 0
    assert "installed below /opt/virt already" in clone.run("--prefix", "/usr").stderr
    assert clone.files() == before
    clone.run("--uninstall")
    assert clone.files() == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--frob"],
        ["install"],
        ["--prefix"],
        ["--prefix", "relative"],
        ["--prefix=/a b"],
        ["--prefix=/a'b"],
        ["--hook-dir"],
        ["--hook-dir", "relative"],
        ["--hook-dir", "/"],
        ["--hook-dir=/a$b"],
        ["--destdir="],
        ["--destdir", "//"],
        ["--prefix", "//"],
        ["--hook-dir", "//"],
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(clone: Clone, arguments: list[str]) -> None:
    """What it does not understand it does not guess at."""
    done = clone.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("install.sh: ")
    assert len(done.stderr.splitlines()) == 1
    assert clone.files() == {}


def test_a_destdir_is_a_folder_however_it_is_written(clone: Clone, tmp_path: Path) -> None:
    """Relative to where install.sh is called, with slashes at its end, and with a blank in it."""
    clone.run()
    for name in ("image", "an image//"):
        done = subprocess.run(
            [clone.here / "install.sh", "--destdir", name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        image = tmp_path / name.strip("/")
        assert {str(path.relative_to(image)) for path in image.rglob("*")} == set(clone.files())


def test_half_a_clone_is_refused(clone: Clone) -> None:
    """A missing launcher is found before anything is written."""
    (clone.here / "hooks/qemu").unlink()
    done = clone.run()
    assert done.returncode == 1
    assert "hooks/qemu" in done.stderr
    assert clone.files() == {}


@pytest.mark.parametrize("mode", [[], ["--uninstall"]])
def test_without_root_it_says_so(clone: Clone, mode: list[str]) -> None:
    """Changing the host needs root; a --destdir does not."""
    clone.fake("id", "echo 1000")
    done = clone.run(*mode, destdir=False)
    assert done.returncode == 1
    assert "needs root" in done.stderr
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
