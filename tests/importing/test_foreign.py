# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs in another language than the shell's, which the scripts start."""

from pathlib import Path

from test_carried import fates, imported, reasons


def test_a_program_in_another_language_behind_a_shell_is_legacy(tmp_path: Path) -> None:
    """By itself or by its interpreter. What the other language did is in no setting, and its log is no reason."""
    (tmp_path / "act.py").write_text("#!/usr/bin/python3\nimport os\nos.system('systemctl stop smbd')\n")
    for line in ('cd "${0%/*}"; ./act.py "$@" >> /var/log/x.log 2>&1', "python3 /etc/libvirt/hooks/act.py"):
        found = imported(tmp_path, begin=line)
        assert 'path = "/etc/libvirt/old-hooks/qemu"' in found.text
        assert "smbd" not in found.text
        assert fates(found) == {line: {"left"}}
        assert "is no script of bash or sh" in reasons(found, "left")


def test_what_is_read_from_a_program_in_another_language_is_known(tmp_path: Path) -> None:
    """It only helps the shell. What the shell does beside one that acts becomes a setting, and that one is left."""
    (tmp_path / "says.py").write_text("#!/usr/bin/python3\nprint('smbd')\n")
    found = imported(tmp_path, begin="systemctl stop $(/etc/libvirt/hooks/says.py)")
    assert '"smbd.service" = "down"' in found.text
    found = imported(tmp_path, begin="systemctl stop nmbd\n/etc/libvirt/hooks/says.py")
    assert '"nmbd.service" = "down"' in found.text
    assert fates(found)["/etc/libvirt/hooks/says.py"] == {"left"}
    assert "legacy]" not in found.text
