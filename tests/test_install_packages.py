# SPDX-License-Identifier: LGPL-2.1-or-later
"""What install.sh asks of each distribution's package manager, and what --demo does."""

import re
import subprocess

import pytest
from test_install import ROOT, Clone

EVERYTHING = ("lxml", "structlog", "audit", "systemd", "libvirt", "hwdata", "rich", "jinja2", "argcomplete")


@pytest.fixture(name="clone")
def _clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("install"))


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        (
            "ID=debian",
            (
                "--no-install-recommends python3-lxml python3-structlog python3-audit python3-systemd python3-libvirt "
                "hwdata python3-rich python3-jinja2 python3-argcomplete"
            ),
        ),
        (
            'ID=linuxmint\nID_LIKE="ubuntu debian"',
            "apt-get install -y -qq --no-install-recommends python3-lxml",
        ),
        ("ID=fedora", "dnf install -y -q python3-lxml python3-structlog python3-audit python3-systemd python3-libvirt"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "dnf install -y -q python3-lxml"),
        (
            "ID=arch",
            (
                "pacman -S --noconfirm --needed python-lxml python-structlog python-audit python-systemd libvirt-python"
                " hwdata python-rich python-jinja2 python-argcomplete"
            ),
        ),
        (
            'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"',
            (
                "python313-lxml python313-structlog python3-audit python313-systemd python3-libvirt-python "
                "hwdata python313-rich python313-jinja2 python313-argcomplete"
            ),
        ),
        ('ID=unknown\nID_LIKE="suse"', "zypper --non-interactive --quiet install"),
    ],
)
def test_each_distribution_has_its_own_names(clone: Clone, os_release: str, command: str) -> None:
    """The distribution is found by ID, or else by what it is like, and its packages by its own names."""
    clone.python_that_misses(*EVERYTHING)
    clone.distribution(os_release)
    done = clone.run("--dry-run", destdir=False)
    assert command in done.stdout
    assert done.returncode == 0
    assert clone.files() == {}, "a temporary file is left"


def test_an_unknown_distribution_is_told_what_to_do(clone: Clone) -> None:
    """Where no package manager is known, the four modules are named instead."""
    clone.python_that_misses("lxml")
    clone.distribution("ID=plan9")
    done = clone.run("--dry-run", destdir=False)
    assert done.returncode == 1
    assert "by hand" in done.stderr


def test_a_package_that_is_there_is_not_asked_for(clone: Clone) -> None:
    """Only the modules that Python lacks are installed; lacking none, no package manager is called."""
    clone.distribution("ID=debian")
    clone.python_that_misses("audit")
    said = clone.run("--dry-run", destdir=False).stdout
    assert "python3-audit" in said
    assert "python3-lxml" not in said
    clone.python_that_misses()
    assert "apt-get" not in clone.run("--dry-run", destdir=False).stdout


def test_a_machine_without_python_gets_it(clone: Clone) -> None:
    """The interpreter itself is a package too."""
    clone.set("python", "/nowhere/python3")
    clone.distribution("ID=debian")
    assert "--no-install-recommends python3 python3-lxml" in clone.run("--dry-run", destdir=False).stdout


def test_an_old_python_is_refused_before_anything_is_installed(clone: Clone) -> None:
    """The message names the interpreter, its version and the one needed."""
    clone.python_that_misses(*EVERYTHING, version_is_fine=False)
    clone.distribution("ID=debian")
    clone.fake("id", "echo 0")
    apt = clone.fake("apt-get", f'echo "$@" >>{clone.host}/apt.log')
    done = clone.run("--demo", destdir=False)
    assert done.returncode == 1
    assert "Python 3.10.12, libhook needs 3.11" in done.stderr
    assert apt.exists()
    assert clone.files() == {}


def test_one_package_that_does_not_exist_does_not_keep_the_others_away(clone: Clone) -> None:
    """When installing all together fails each is tried alone, and what is then still missing is named."""
    clone.python_that_misses("lxml", "audit")
    clone.distribution("ID=debian")
    clone.fake("id", "echo 0")
    clone.fake("apt-get", f'echo "$@" >>{clone.host}/apt.log\ncase "$*" in *audit*) exit 100 ;; esac')
    done = clone.run("--demo", destdir=False)
    calls = (clone.host / "apt.log").read_text().splitlines()
    assert [call.rpartition("recommends ")[2] for call in calls] == [
        "update -qq", "python3-lxml python3-audit", "python3-lxml", "python3-audit",
    ]  # fmt: skip
    assert done.returncode == 1
    assert "still cannot import lxml audit" in done.stderr


@pytest.mark.parametrize("module", ["structlog", "systemd"])
def test_what_only_the_log_needs_may_be_missing(clone: Clone, module: str) -> None:
    """Without the journal's bindings there is syslog, without structlog a plain log: a warning, not an error."""
    clone.python_that_misses(module)
    clone.distribution("ID=debian")
    clone.fake("id", "echo 0")
    clone.fake("apt-get", "exit 100")
    done = clone.run("--demo", destdir=False)
    assert done.returncode == 0
    assert re.search(f"no .*{module} for", done.stderr)


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
    done = subprocess.run(
        ["/bin/sh", clone.here / "part.sh"], env={"PATH": f"{clone.bin}:/usr/bin:/bin"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "goes on")
    assert (COMMANDS_NEED[module] if os_release == "ID=debian" else "is not Debian") in done.stderr


def test_missing_packages_without_root_are_named(clone: Clone) -> None:
    """Who may not install is told which modules are missing."""
    clone.python_that_misses("structlog")
    clone.distribution("ID=debian")
    clone.fake("id", "echo 1000")
    clone.fake("apt-get", f"touch {clone.host}/called")
    done = clone.run("--demo", destdir=False)
    assert done.returncode == 1
    assert "(structlog missing) needs root" in done.stderr
    assert clone.files() == {}


def test_the_demo_needs_no_root_where_the_packages_are(clone: Clone) -> None:
    """--demo plays from the clone, with the distribution's own Python, and leaves the host alone."""
    clone.fake("id", "echo 1000")
    done = clone.run("--demo", destdir=False)
    assert (done.returncode, done.stdout) == (0, "demo plays ['demo']\n"), done.stderr
    assert clone.files() == {}


def test_the_launcher_can_be_told_where_its_package_is() -> None:
    """hooks/qemu has exactly one line for install.sh to set, and it says so."""
    lines = [line for line in (ROOT / "hooks/qemu").read_text().splitlines() if line.startswith("lib=")]
    assert len(lines) == 1
    assert "# install.sh sets this" in lines[0]


def test_the_root_folder_is_no_prefix() -> None:
    """It is not silently taken for the default."""
    done = subprocess.run([ROOT / "install.sh", "--prefix", "/"], capture_output=True, text=True, check=False)
    assert (done.returncode, "other than /" in done.stderr) == (2, True)
