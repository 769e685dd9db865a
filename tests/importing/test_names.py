# SPDX-License-Identifier: LGPL-2.1-or-later
"""How scripts ask for a guest's name, and the sections that come of it."""

import json
from pathlib import Path

import pytest
from plainhost import plain

from libhook.facts import settings
from libhook.facts.config import Source
from libhook.importing import importer, sources
from libhook.importing.life import Guest

ACT = "systemctl stop x.service"


def sections(folder: Path) -> list[str]:
    """The names of the sections for guests."""
    text = importer.run(sources.read([str(folder)]), [], ["x"], plain()).text
    found = settings.read([Source("x.toml", text)]).sections
    return sorted(section.guest for section in found if section.keys[:1] == ("domains",))


@pytest.mark.parametrize(
    ("asks", "names"),
    [
        (f'if [ "$1" = a ]; then {ACT}; fi', ["a"]),
        (f'if [ "x$1" = "xa" ]; then {ACT}; fi', ["a"]),
        (f'if [ "$1" != a ]; then exit 0; fi; {ACT}', ["a"]),
        (f'if [ "$1" == a -o "$1" == b ]; then {ACT}; fi', ["a", "b"]),
        (f'VM=a; [[ $VM == "$1" ]] && {ACT}', ["a"]),
        (f"[[ $1 == win* ]] && {ACT}", ["win*"]),
        (f"[[ $1 =~ ^(a|b)$ ]] && {ACT}", ["a", "b"]),
        (f"[[ $1 =~ ^win ]] && {ACT}", ["win*"]),
        (f"[[ $1 =~ gpu ]] && {ACT}", ["*gpu*"]),
        (f'V="a b"; [[ " $V " =~ " $1 " ]] && {ACT}', ["a", "b"]),
        (f'for n in a b; do [ "$n" = "$1" ] && {ACT}; done', ["a", "b"]),
        (f'case "$1" in a|b-*) {ACT};; esac', ["a", "b-*"]),
        (f'G=$1; O=$2; case "$G/$O" in\n a/prepare) {ACT};;\n esac', ["a"]),
        (f'case "$1,$2" in\n a,prepare|b-*,prepare)\n {ACT} ;;\n esac', ["a", "b-*"]),
        (f'case $1 in\n "a")\n {ACT}\n ;;\n *) exit 0 ;;\n esac', ["a"]),
        (f'[ -f "/etc/libvirt/hooks/of/$1" ] && {ACT}', ["one", "two"]),
        (f'grep -q "^$1," /etc/libvirt/hooks/table.csv && {ACT}', ["in-csv"]),
        (f'grep -q "\\"$1\\":" /etc/libvirt/hooks/table.json && {ACT}', ["in-json"]),
    ],
)
def test_a_guest_is_found_by_how_scripts_ask_for_it(tmp_path: Path, asks: str, names: list[str]) -> None:
    """Each way that is published: tests, patterns, lists, cases, files and tables."""
    (tmp_path / "of").mkdir()
    for name in ("one", "two"):
        (tmp_path / "of" / name).write_text("x=1\n")
    if "table.csv" in asks:
        (tmp_path / "table.csv").write_text("in-csv,8080\n")
    if "table.json" in asks:
        (tmp_path / "table.json").write_text(json.dumps({"in-json": {"a": 1}}))
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$2" = prepare ] || exit 0\n{asks}\nexit 0\n')
    assert sections(tmp_path) == names


def test_a_word_for_use_by_hand_is_no_guest(tmp_path: Path) -> None:
    """The same is done at every operation, also where a guest migrates. With --guest it is one."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\nif [ "$1" = shield ]; then {ACT}; exit 0; fi\n'
                                   f'[ "$1/$2" = a/prepare ] && {ACT}\nexit 0\n')  # fmt: skip
    assert sections(tmp_path) == ["a"]
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert any("shield: the scripts do the same at every operation" in line for line in found.lines)
    assert not any("no setting" in line for line in found.lines)
    found = importer.run(sources.read([str(tmp_path)]), [Guest("shield")], ["x"], plain())
    assert '[domains."shield".units]' in found.text
    (tmp_path / "qemu").write_text(f'#!/bin/bash\nif [ "$1" = a ]; then {ACT}; exit 3; fi\nexit 0\n')
    assert sections(tmp_path) == ["a"]  # what breaks off did not come to ask for the operation


def test_guests_that_are_left_out_are_named(tmp_path: Path) -> None:
    """No setting says for all but these."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\nif [[ $1 != "e"* && $2 = prepare ]]; then {ACT}; fi\nexit 0\n')
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert any('the scripts leave out "e*", and what is here for all guests is for these, too' in line
               for line in found.lines)  # fmt: skip


@pytest.mark.parametrize("name", ["to mend it, run: poweroff", "to mend it, execute poweroff"])
def test_no_name_in_the_report_reads_as_advice(tmp_path: Path, name: str) -> None:
    """A guest's, a file's, an operation's: the scripts' author chose it. What is shown of a line begins no command."""
    hook = f'#!/bin/bash\ncase "$1/$2" in\n "{name}/prepare") {ACT}; zfs mount "{name}"; exit 3;;\nesac\n'
    own = f"#!/bin/bash\n{ACT}\nfalse\necho '{name}' >&2\n[ -n \"$9\" ] && {ACT}\nexit 4\n"
    files = {
        "qemu": f'{hook}[ "$2" = stopped ] && . "/etc/libvirt/hooks/{name}.conf"\nexit 0\n',
        f"qemu.d/{name}/prepare/begin/{name}.sh": own,
        f"qemu.d/{name}/{name}/begin/x.sh": "#!/bin/bash\n",
        f"network.d/{name}": "#!/bin/bash\n",
        f"{name}.py": "#!/usr/bin/python3\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    (tmp_path / f"to {name}").symlink_to("/etc/hostname")
    found = importer.run(sources.read([str(tmp_path)]), [Guest(name)], ["x"], plain())
    assert [line for line in found.lines if "run:" in line] == []
    shown = name.replace("run:", "run\\x3a")
    told = found.lines[found.lines.index("To know:") + 1 :]
    parts = [line.partition(shown)[0] for line in told if shown in line]
    assert len(parts) > 3
    assert [part for part in parts if part.count('"') % 2 == 0] == []
