# SPDX-License-Identifier: LGPL-2.1-or-later
"""install.sh --uninstall: it leaves nothing, and is refused where that would take a guest's way back."""

from pathlib import Path

import pytest
from test_install import Clone, put_other_hook


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("with_other_hook", [False, True])
def test_uninstall_leaves_nothing(clone: Clone, with_other_hook: bool) -> None:
    """After --uninstall the host is as it was, to the last folder, and a second one does no harm."""
    (clone.host / "usr/local/bin").mkdir(parents=True)
    if with_other_hook:
        put_other_hook(clone)
    before = clone.files()
    clone.run()
    clone.run()
    (clone.host / "run/libhook").mkdir(parents=True)
    (clone.host / "run/libhook/lock").touch()
    done = clone.run("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    (clone.host / "run").rmdir()
    assert clone.files() == before
    assert clone.run("--uninstall").returncode == 0
    assert clone.files() == before


def test_uninstall_keeps_the_configuration(clone: Clone) -> None:
    """What the administrator wrote stays, and is mentioned."""
    config = clone.host / "etc/libhook/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("dry_run = true\n")
    drop_ins = config.with_suffix(".d")
    drop_ins.mkdir()
    clone.run()
    said = clone.run("--uninstall").stdout
    assert f"you wrote it: {config}\n" in said
    assert f"you wrote it: {drop_ins}\n" in said
    assert config.exists()
    assert drop_ins.exists()


def test_purge_takes_what_uninstall_keeps(clone: Clone) -> None:
    """The configuration, and the notes of what guests' devices were, of which --uninstall says that they stay."""
    before = clone.files()
    clone.run()
    for name in ("etc/libhook/config.d/a.toml", "var/lib/libhook/devices/x.json"):
        (clone.host / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.host / name).touch()
    said = clone.run("--uninstall").stdout
    assert f"kept, what guests' devices were: {clone.host}/var/lib/libhook" in said
    kept = clone.files()
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


def test_uninstall_is_refused_while_a_guest_holds_a_device(clone: Clone) -> None:
    """Nothing is removed, and the guest is named without what a terminal would obey."""
    clone.run()
    clone.guest_holds('{"uuid": "5d1c", "name": "win\\u001b[2J11", "phase": "started", "devices": [{"move": null}]}')
    before = clone.files()
    done = clone.run("--uninstall")
    assert done.returncode == 1
    assert "win[2J11" in done.stderr
    assert "\x1b" not in done.stderr
    assert clone.files() == before


def test_a_torn_entry_still_counts_as_a_guest(clone: Clone) -> None:
    """A state file that cannot be read is named by its file and refuses too."""
    clone.run()
    clone.guest_holds("")
    done = clone.run("--uninstall")
    assert done.returncode == 1
    assert "5d1c" in done.stderr


def test_a_guest_that_was_refused_holds_nothing(clone: Clone) -> None:
    """The memory of a refused start does not stand in the way of --uninstall."""
    clone.run()
    clone.guest_holds('{"name": "win11", "phase": "refused", "devices": []}')
    assert clone.run("--uninstall").returncode == 0
    assert not (clone.host / "run/libhook").exists()
