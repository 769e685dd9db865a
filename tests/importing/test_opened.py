# SPDX-License-Identifier: LGPL-2.1-or-later
"""What root reads and writes before anybody consents: only what was given, and only below the sandbox's folder."""

import os
from pathlib import Path

import pytest

from libhook.errors import BadInput
from libhook.importing import folder, sources
from libhook.importing.reading import Reader


@pytest.mark.parametrize("name", ["../out", "a/../../out", "etc/./x", "", "/", "up/x"])
def test_nothing_is_written_elsewhere(tmp_path: Path, name: str) -> None:
    """Neither by two dots nor by a link on the way."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="no path below"):
        folder.put(str(tmp_path / "root"), name, "x")
    with pytest.raises(BadInput, match="no path below"):
        folder.link(str(tmp_path / "root"), name, "x")
    assert sorted(os.listdir(tmp_path)) == ["root"]


def test_a_path_that_leads_up_is_not_followed(tmp_path: Path) -> None:
    """A script names one, and a file of its name lies beside it: it is not put there."""
    (tmp_path / "qemu").write_text("#!/bin/bash\n. /etc/libvirt/hooks/../../../../tmp/owned.sh\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "owned.sh").write_text("#!/bin/bash\n")
    assert all(".." not in file.place for file in sources.read([str(tmp_path)]).files)


def test_only_what_was_given_is_read(tmp_path: Path) -> None:
    """A link out of it, a way up, a fifo and a device are not, and each that lies among the scripts is named."""
    given, secret = tmp_path / "given", tmp_path / "secret"
    given.mkdir()
    secret.write_text("#!/bin/bash\nsecret\n")
    (given / "qemu").write_text("#!/bin/bash\n")
    (given / "twin").symlink_to(given / "qemu")
    (given / "out").symlink_to(secret)
    (given / "zero").symlink_to("/dev/zero")
    (given / "folder").symlink_to(tmp_path)
    os.mkfifo(given / "fifo")
    reader = Reader([str(given)], str(tmp_path / "hooks"))
    assert [os.path.basename(one.origin) for one in reader.all([str(given)])] == ["qemu", "twin"]
    told = "\n".join(reader.skipped)
    assert all(f"{given}/{name} is not read" in told for name in ("out", "zero", "fifo", "folder"))
    assert reader.file(f"{given}/../secret") is None
    assert reader.file(str(secret)) is None
    assert reader.file(str(given / "twin")) == ("#!/bin/bash\n", False)


def test_no_part_of_a_path_may_become_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who changes a folder into a link between the look and the opening gets nothing."""
    (tmp_path / "given").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    monkeypatch.setattr(os.path, "realpath", os.path.abspath)
    assert Reader([str(tmp_path)], "/nowhere").file(str(tmp_path / "given" / "x")) is None


def test_what_is_too_much_is_named(tmp_path: Path) -> None:
    """A file that is too long, and folders that are too deep."""
    deep = tmp_path.joinpath(*"abcdefghijklmno")
    deep.mkdir(parents=True)
    (deep / "script.sh").write_text("#!/bin/bash\n")
    (tmp_path / "qemu").write_text("#!/bin/bash\n")
    (tmp_path / "large").write_text("x" * (1 << 20) + "x")
    told = "\n".join(sources.read([str(tmp_path)]).found)
    assert "large is not read: larger than 1 MiB" in told
    assert "is not read: its folders lie deeper than 12" in told


def test_what_nobody_may_execute_stays_off(tmp_path: Path) -> None:
    """If another hook may be executed. Where none may, the modes were lost, and say nothing."""
    begin = tmp_path / "qemu.d" / "a" / "prepare" / "begin"
    begin.mkdir(parents=True)
    (tmp_path / "qemu").write_text("#!/bin/bash\n")
    (begin / "x.sh").write_text("#!/bin/bash\n")
    assert not any(file.off for file in sources.read([str(tmp_path)]).files)
    (tmp_path / "qemu").chmod(0o755)
    found = sources.read([str(tmp_path)])
    assert [os.path.basename(file.place) for file in found.files if file.off] == ["x.sh"]
    assert any("x.sh is switched off" in text for text in found.found)
