# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where files are meant to be: installed ones, repositories, loose scripts, and what is not to be imported."""

from pathlib import Path

import pytest

from libhook.errors import LibhookError
from libhook.importing import sources
from libhook.importing.sources import ANY, HOOKS, TREE

SCRIPT = "#!/bin/bash\n# prepare\nsystemctl stop x.service\n"


def places(folder: Path, *paths: str, text: str = SCRIPT) -> dict[str, str]:
    """Where each of these files is meant to be."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    found = sources.read([str(folder)]).files
    return {file.origin.removeprefix(f"{folder}/"): file.place for file in found}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("hooks/qemu", f"{HOOKS}/qemu"),
        ("etc/libvirt/hooks/qemu", f"{HOOKS}/qemu"),
        ("libvirt/hooks/qemu.d/10-a", f"{TREE}/10-a"),
        ("some/where/qemu.d/win/prepare/begin/a.sh", f"{TREE}/win/prepare/begin/a.sh"),
        ("win/release/end.sh", f"{TREE}/win/release/end.sh"),
        ("win/started.begin", f"{TREE}/win/started.begin"),
        ("only-one.sh", f"{HOOKS}/qemu"),
    ],
)
def test_where_a_hook_is_meant_to_be(tmp_path: Path, path: str, place: str) -> None:
    """As libvirt or a dispatcher would find it."""
    assert places(tmp_path, path) == {path: place}


def test_two_scripts_without_a_dispatcher_are_for_every_guest(tmp_path: Path) -> None:
    """One for before and one for after."""
    assert places(tmp_path, "start.sh", "revert.sh") == {
        "start.sh": f"{TREE}/{ANY}/prepare/begin/start.sh",
        "revert.sh": f"{TREE}/{ANY}/release/end/revert.sh",
    }


def test_a_script_is_put_where_another_looks_for_it(tmp_path: Path) -> None:
    """By its path, in whatever folder of the repository it is."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "qemu").write_text("#!/bin/bash\n/usr/local/sbin/up $1\n/bin/down.sh\n")
    found = places(tmp_path, "scripts/up.sh", "scripts/down.sh", "unit/keep@.service")
    assert found["scripts/up.sh"] == "/usr/local/sbin/up"
    assert found["scripts/down.sh"] == "/bin/down.sh"
    assert found["unit/keep@.service"] == "/etc/systemd/system/keep@.service"


def test_of_two_for_one_place_the_first_counts(tmp_path: Path) -> None:
    """And the other is named."""
    places(tmp_path, "a/hooks/qemu", "b/hooks/qemu")
    found = sources.read([str(tmp_path)])
    assert [file.place for file in found.files] == [f"{HOOKS}/qemu"]
    assert any("is not imported" in text and "b/hooks/qemu" in text for text in found.found)


def test_line_ends_of_windows_are_told(tmp_path: Path) -> None:
    """On a host it never ran; what it was meant to do is imported."""
    (tmp_path / "qemu").write_bytes(b"#!/bin/bash\r\nsystemctl stop x\r\n")
    found = sources.read([str(tmp_path)])
    assert found.files[0].text == "#!/bin/bash\nsystemctl stop x\n"
    assert any("qemu has the line ends of Windows: no kernel runs it so" in text for text in found.found)


def test_libhooks_own_hook_is_none_to_import(tmp_path: Path) -> None:
    """Where libhook is installed, it lies among the old ones."""
    (tmp_path / "qemu").write_text((Path(__file__).parents[2] / "hooks" / "qemu").read_text())
    found = sources.read([str(tmp_path)])
    assert found.files == ()
    assert found.found == (f"{tmp_path}/qemu is libhook's own hook",)


def test_too_much_is_refused(tmp_path: Path) -> None:
    """Somebody gave a whole disk."""
    for number in range(5):
        (tmp_path / f"{number}.sh").write_text("#" * 1_000_000)
    with pytest.raises(LibhookError, match="more than 2000 files or 4 MiB"):
        sources.read([str(tmp_path)])
