# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of single lines: kept at its event, with its undo and in its order, or left with its reason."""

from pathlib import Path
from typing import Any

import pytest
from plainhost import plain

from libhook.importing import errands, importer, sources
from libhook.importing.importer import Imported

TREE = {"begin": "prepare", "start": "start", "running": "started", "again": "reconnect", "end": "release"}


def imported(folder: Path, *, program: Any = None, **scripts: str) -> Imported:  # noqa: ANN401 - what Host takes
    """Import a hook with these lines at these operations, for every guest."""
    cases = "\n".join(f"{TREE[when]})\n{text}\n;;" for when, text in scripts.items())
    (folder / "qemu").write_text(f'#!/bin/bash\ncase "$2" in\n{cases}\nesac\nexit 0\n')
    host = plain()
    return importer.run(sources.read([str(folder)]), [], ["x"], host._replace(program=program or host.program))


def fates(found: Imported) -> dict[str, set[str]]:
    """What became of each line."""
    told = dict[str, set[str]]()
    for one in found.data["lines"]:  # type: ignore[attr-defined]
        told.setdefault(one["text"], set()).add(one["what"])
    return told


def reasons(found: Imported, what: str) -> str:
    """Why."""
    return "\n".join(one["becomes"] for one in found.data["lines"] if one["what"] == what)  # type: ignore[attr-defined]


def test_a_program_with_a_dot_is_no_script(tmp_path: Path) -> None:
    """It was not given, so what it does is not in the trace: it is a command."""
    found = imported(tmp_path, begin="/opt/tool/act.py on", end="/opt/tool/act.py off")
    assert fates(found)["/opt/tool/act.py on"] == {"kept"}
    assert '["/opt/tool/act.py", "on"]' in found.text


def test_a_script_of_the_hooks_that_was_not_given_is_left(tmp_path: Path) -> None:
    """The old scripts go away, so no command may need one."""
    found = imported(tmp_path, begin="/etc/libvirt/hooks/helper.v2 on")
    assert fates(found) == {"/etc/libvirt/hooks/helper.v2 on": {"left"}}
    assert "was not given, so nobody knows what it does" in reasons(found, "left")


def test_a_script_that_was_given_is_traced(tmp_path: Path) -> None:
    """Whatever it is called: what it does is in the trace, and it is no command besides."""
    (tmp_path / "act.v2").write_text("#!/bin/bash\nsystemctl stop smbd\n")
    found = imported(tmp_path, begin="/etc/libvirt/hooks/act.v2")
    assert '"smbd.service" = "down"' in found.text
    assert "act.v2" not in found.text


def test_a_program_keeps_the_path_that_the_script_has(tmp_path: Path) -> None:
    """Else it is where this host has it; and what is not here is left, by its name."""
    where = {"brightnessctl": "/usr/local/bin/brightnessctl", "/usr/bin/wpctl": ""}
    found = imported(tmp_path, program=lambda name: where.get(name, ""), begin="""
/usr/bin/wpctl set-mute 1
brightnessctl set 0
supergfxctl -m Vfio""")  # fmt: skip
    assert '["/usr/bin/wpctl", ' in found.text
    assert '["/usr/local/bin/brightnessctl", ' in found.text
    assert "supergfxctl is not on this host: install it, and import again" in reasons(found, "left")
    assert any("/usr/bin/wpctl is not on this host, and was not given" in line for line in found.lines)


def test_a_real_change_is_no_log_and_no_note(tmp_path: Path) -> None:
    """What is appended to is no log for that, what lies in /run is no note, and a device is no file."""
    found = imported(tmp_path, begin="""
exec >>/var/tmp/hook-output
echo 10.0.0.1 box >> /etc/hosts
echo '[Service]' > /run/systemd/system/x.conf
echo x > /dev/nbd0
echo y > /tmp/state
echo z > /srv/a.log""", end='[ -f /tmp/state ] && rm /tmp/state')  # fmt: skip
    told = fates(found)
    assert told["echo 10.0.0.1 box >> /etc/hosts"] == {"kept"}
    assert '>>\\"$2\\"' in found.text
    assert told["echo '[Service]' > /run/systemd/system/x.conf"] == {"kept"}
    assert told["echo x > /dev/nbd0"] == {"left"}
    assert told["exec >>/var/tmp/hook-output"] == {"needless"}
    assert told["echo y > /tmp/state"] == {"needless"}
    assert told["echo z > /srv/a.log"] == {"needless"}


def test_what_is_said_to_the_kernels_log_is_in_the_way_of_nothing(tmp_path: Path) -> None:
    """bash does not run a command whose output it cannot open."""
    found = imported(tmp_path, begin="""
act() { foo one; }
act > /dev/kmsg 2>&1
foo two >/dev/tty1
echo x > /dev/console""")  # fmt: skip
    assert fates(found)["act() { foo one; }"] == {"kept"}
    assert fates(found)["foo two >/dev/tty1"] == {"kept", "needless"}
    assert not any("ended with" in line for line in found.lines)


@pytest.mark.parametrize(
    "shell", ["/run/current-system/sw/bin/bash", "/nix/store/0abc-bash-5.2/bin/bash", "/usr/local/bin/sh"]
)
def test_a_shell_may_be_anywhere(tmp_path: Path, shell: str) -> None:
    """And programs; and folders at the top of the host that no other host has."""
    (tmp_path / "qemu").write_text(f"""#!{shell} -e
[ "$2" = prepare ] || exit 0
/nix/store/0abc-systemd/bin/systemctl stop smbd
echo x > /storage/state/x
false
systemctl stop nmbd
""")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert '[units]\n"smbd.service" = "down"\n[run.' in found.text
    assert "/storage/state/x" in found.text


def test_what_comes_after_a_unit_waits_for_it(tmp_path: Path) -> None:
    """Also for one that goes up, and also a file or a mount; what comes before it does not."""
    found = imported(tmp_path, begin="""
foo early
systemctl start nbd-server
foo late
echo x > /etc/late
mount -t tmpfs tmpfs /srv/late""", end="systemctl stop nbd-server")  # fmt: skip
    entries = {text.partition("]")[0]: text for text in found.text.split("[run.")[1:]}
    assert {name: 'after = "units"' in text for name, text in entries.items()} == {
        "foo-early": False, "foo-late": True, "x-late": True, "mount-tmpfs-tmpfs": True,
    }  # fmt: skip


def test_what_the_end_does_before_a_unit_is_back_stays_before_it(tmp_path: Path) -> None:
    """Undos run in reverse, so it comes after the units on the way there."""
    found = imported(
        tmp_path, begin="systemctl stop sddm", end="systemctl stop sddm\nfoo a\nsystemctl start sddm\nbar b"
    )
    entries = {text.partition("]")[0]: text for text in found.text.split("[run.")[1:]}
    assert {name: 'after = "units"' in text for name, text in entries.items()} == {"bar-b": False, "foo-a": True}


def test_entries_stand_in_the_order_of_the_script(tmp_path: Path) -> None:
    """A unit that is restarted reads what was written before, on the way there and back."""
    found = imported(tmp_path, begin="foo one\nsystemctl restart nmbd\nfoo two\nmodprobe nbd\nfoo three",
                     end="bar one\nsystemctl reload-or-restart winbind\nsysctl vm.laptop_mode=5\nbar two")  # fmt: skip
    entries = [text.partition("]")[0] for text in found.text.split("[run.")[1:]]
    assert entries == ["foo-one", "systemctl-restart-nmbd-service", "foo-two", "modprobe-nbd", "foo-three",
                       "bar-two", "laptop_mode", "systemctl-restart-winbind-service", "bar-one"]  # fmt: skip


def test_isolate_has_both_directions(tmp_path: Path) -> None:
    """Back to the graphical target the display manager is up again."""
    found = imported(tmp_path, begin="systemctl isolate multi-user.target", end="systemctl isolate graphical.target")
    assert fates(found) == {"systemctl isolate multi-user.target": {"kept"},
                            "systemctl isolate graphical.target": {"undone"}}  # fmt: skip


def test_a_unit_that_changes_twice_is_left(tmp_path: Path) -> None:
    """No setting says both; nothing starts behind the back of `units`."""
    found = imported(tmp_path, begin="systemctl stop smbd", running="systemctl start smbd", end="systemctl start smbd")
    assert fates(found)["systemctl start smbd"] == {"left", "undone"}
    assert "systemctl" not in found.text
    assert any("changes again while the guest runs, and `units` keeps it down" in line for line in found.lines)


def test_a_unit_that_goes_down_and_up_at_once_is_restarted(tmp_path: Path) -> None:
    """It is not kept down: the script wants it to read its new configuration."""
    found = imported(tmp_path, begin="systemctl stop proxy\necho x > /etc/proxy.conf\nsystemctl start proxy",
                     end="systemctl stop smbd\nsystemctl start smbd")  # fmt: skip
    assert '"down"' not in found.text
    assert '"restart", "proxy.service"' in found.text
    assert "after" not in found.text
    assert '"restart", "smbd.service"' in found.text
    assert '"stop"' not in found.text
    assert fates(found)["systemctl stop proxy"] == {"kept"}
    found = imported(tmp_path, begin="systemctl stop sddm\nmodprobe -r amdgpu\nsystemctl start sddm")
    assert '"sddm.service" = "down"' in found.text  # else the module could not go


def test_an_earlier_event_is_told(tmp_path: Path) -> None:
    """A setting holds from prepare on, and the script did it later."""
    found = imported(tmp_path, start="umount /srv/data\nsysctl vm.swappiness=10", running="systemctl stop smbd")
    assert reasons(found, "kept").count("(now from prepare on, and not from start on)") == 2
    assert reasons(found, "kept").count("(now from prepare on, and not from started on)") == 1


def test_reconnect_is_told_where_it_is_written(tmp_path: Path) -> None:
    """An entry without an undo has no reconnect, and the report does not say that it has."""
    found = imported(tmp_path, start="foo one", again="foo one")
    assert "reconnect" not in found.text
    assert "reconnect = true" not in reasons(found, "kept")
    assert "no setting runs anything of its own at reconnect" in reasons(found, "left")


def test_every_sleep_is_the_same(tmp_path: Path) -> None:
    """Short or long, at whatever operation."""
    found = imported(tmp_path, begin="sleep 1", running="sleep 30", end="sleep 5")
    assert fates(found) == {f"sleep {number}": {"needless"} for number in (1, 30, 5)}


@pytest.mark.parametrize(
    "line",
    [
        "nft 'flush ruleset'", "nft flush ruleset", "nft -f /etc/own.nft", "ip route flush table main",
        "ipset destroy", "iptables-restore /etc/rules", "echo b > /proc/sysrq-trigger", "shutdown -h now", "reboot",
        "init 3", "poweroff", "userdel tim", "mkfs.ext4 /dev/sdb1", "wipefs -a /dev/sdb", "dd if=/a of=/dev/sdb",
        "rm -rf /srv", "echo 1 | tee /dev/sdb",
    ],
)  # fmt: skip
def test_dangerous_programs(tmp_path: Path, line: str) -> None:
    """None becomes a setting, and each is told."""
    found = imported(tmp_path, begin=line)
    assert fates(found) == {line: {"danger"}}
    assert found.text.count("\n") == 1


def test_what_a_command_reads_is_left(tmp_path: Path) -> None:
    """An entry has no stdin."""
    found = imported(tmp_path, begin="foo < /etc/fstab")
    assert fates(found) == {"foo < /etc/fstab": {"left"}}


def test_what_ran_only_in_part_is_named(tmp_path: Path) -> None:
    """A list whose first command fails, a function on one line, a branch on the same line."""
    found = imported(tmp_path, begin="""
[ -f /srv/none ] && systemctl stop y
both() { foo one; false && foo two; }
both
if systemctl is-active -q unheard; then foo three; else foo four "a; b"; fi
echo "systemctl stop q" | cat; LIST=(foo five); echo $((1 + 2)) # foo six
foo seven && foo eight
case a in b) foo nine ;; a) foo ten ;; esac
[ -f /none ] && echo x >> /var/log/x.log""")  # fmt: skip
    told = [one["text"] for one in found.data["ran_in_part"]]  # type: ignore[attr-defined]
    assert told == ["systemctl stop y", "foo two", "foo four ...", "foo nine"]
    assert any(line.startswith("Ran only in part") for line in found.lines)


@pytest.mark.parametrize("flag", ["-d", "-f", "-e", "-s"])
def test_a_file_or_folder_without_which_the_start_is_refused(tmp_path: Path, flag: str) -> None:
    """It is made for the second run, as what the test asks for. What each host has is no reason."""
    found = imported(
        tmp_path, begin=f"[ -d /sys ] || exit 2\n[ {flag} /mnt/games/x ] || {{ echo 'no games'; exit 1; }}"
    )
    assert '[require.x]\nfile = "/mnt/games/x"\nreason = "no games"' in found.text
    assert found.text.count("[require.") == 1


def test_what_gives_up_is_told_with_its_step(tmp_path: Path) -> None:
    """A check that refuses the start is told; that a step refuses it where it fails, its entry says."""
    found = imported(tmp_path, begin="""
stop() { echo "$1"; exit 1; }
[ -d /sys ] || stop "no sysfs"
foo one || stop "not one"
foo two || {
  echo "not two"
  exit 1
}""")  # fmt: skip
    told = [(one["text"], one["line"]) for one in found.data["ran_in_part"]]  # type: ignore[attr-defined]
    assert told == [("stop ...", 6)]
    assert "on_failure" not in found.text
    never = [one["line"] for one in found.data["never_ran"] if one["acts"]]  # type: ignore[attr-defined]
    assert never == [5]
    assert "  lines that only say or decide something: 1" in found.lines


def test_what_ran_under_one_name_ran(tmp_path: Path) -> None:
    """A link, or a copy: its lines are told once, those that ran of neither."""
    script = tmp_path / "both.sh"
    script.write_text('#!/bin/bash\nif [ "$2" = prepare ]; then foo on; elif [ "$2" = no ]; then\n  foo never\nfi\n')
    for step in ("prepare/begin", "release/end"):
        folder = tmp_path / "qemu.d" / "a" / step
        folder.mkdir(parents=True)
        (folder / "both.sh").symlink_to(script)
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert [one["text"].strip() for one in found.data["never_ran"]] == ["foo never"]  # type: ignore[attr-defined]


def test_a_line_that_came_to_nothing_is_told(tmp_path: Path) -> None:
    """Nothing is dropped without a word: here kill gets no number, and nobody knows what foo does."""
    found = imported(tmp_path, begin="""
own() { foo one; }
own; pwd; set -x; x=$(cat /etc/none 2>/dev/null)
kill $x
[ -f /etc/none ] || kill -9 $(cat /etc/none)""")  # fmt: skip
    told = [(one["text"], one["line"]) for one in found.data["unseen"]]  # type: ignore[attr-defined]
    assert told == [("kill $x", 7), ("kill -9 ...", 8)]
    assert any(line.startswith("Ran, and nothing was seen of it here") for line in found.lines)


def test_a_refusal_has_the_guests_name(tmp_path: Path) -> None:
    """Or says that it is for guests that the scripts do not name."""
    (tmp_path / "qemu").write_text('#!/bin/bash\n[ "$1" = a ] && exit 0\n[ "$2" = prepare ] && exit 3\nexit 0\n')
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert any("at prepare of a guest that they do not name it ended with 3 here" in line for line in found.lines)


def test_no_more_entries_than_a_person_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is named."""
    monkeypatch.setattr(errands, "_MOST", 3)
    found = imported(tmp_path, begin="for i in {1..5}; do foo x$i; done")
    assert found.text.count("[run.") == 3
    assert "more than 3 commands: the rest is yours to write" in reasons(found, "left")


def test_zsh_is_another_language(tmp_path: Path) -> None:
    """bash would run it, and understand something else."""
    (tmp_path / "qemu").write_text("#!/bin/zsh\nsystemctl stop smbd\n")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert "smbd" not in found.text
    assert "[legacy]" in found.text


def test_the_whole_import_has_a_deadline(tmp_path: Path) -> None:
    """Guests that are left out are named."""
    (tmp_path / "qemu").write_text('#!/bin/bash\n[ "$1" = a ] && systemctl stop smbd\nexit 0\n')
    host = plain()
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], host._replace(until=host.until - 570))
    assert any("import took too long: a is left out" in line for line in found.lines)
