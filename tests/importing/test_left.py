# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is left to the reader, and what needs no word: programs that only ask, notes that nobody reads, and the like."""

import tomllib
from pathlib import Path

import pytest
from plainhost import plain
from test_carried import fates, imported, reasons

from libhook.importing import importer, sources


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("route | grep -q '^default'", {"left", "needless"}), ("route add default gw 10.0.0.1", {"kept"}),
        ("IF=$(foo list)", {"left"}), ("foo list | awk '{print $1}'", {"left"}), ("ID=$(foo run -d x)", {"kept"}),
        ("foo list | tee -a /var/log/x", {"kept"}), ("foo list || grep x /dev/null", {"kept"}),
    ],
)  # fmt: skip
def test_what_a_script_only_reads_is_no_entry(tmp_path: Path, line: str, what: set[str]) -> None:
    """A program whose answer is read, and whose words do not act, seems to ask."""
    found = imported(tmp_path, begin=line)
    assert fates(found).get(line, {"needless"}) <= what | {"needless"}
    assert ("[run." in found.text) == ("kept" in what)
    assert "left" not in fates(found).get(line, set()) or "it seems only to ask" in reasons(found, "left")


@pytest.mark.parametrize(
    ("begin", "end", "is_undone"),
    [
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 0 > /proc/sys/net/ipv4/ip_forward", True),
        ("sysctl -w net.ipv4.ip_forward=1", "sysctl -w net.ipv4.ip_forward=0", True),
        ("echo 0 > /sys/devices/system/cpu/cpu3/online", "echo 1 > /sys/devices/system/cpu/cpu3/online", True),
        ("cat /proc/sys/net/ipv4/ip_forward > /run/was\necho 1 > /proc/sys/net/ipv4/ip_forward",
         "cat /run/was > /proc/sys/net/ipv4/ip_forward", False),
    ],
)  # fmt: skip
def test_what_values_refuses_is_a_command(tmp_path: Path, begin: str, end: str, is_undone: bool) -> None:
    """libhook would refuse each start. What the script had noted at the begin, no command knows."""
    found = imported(tmp_path, begin=begin, end=end)
    table = tomllib.loads(found.text)
    assert "values" not in table
    assert ["command" in one for one in table["run"].values()] == [True, False][: 1 + is_undone]
    assert "is set by a command, as `values` refuses" in "\n".join(found.lines)
    assert ("depends on what this host says" in reasons(found, "left")) != is_undone


def test_who_is_ended_without_a_name_is_nobody(tmp_path: Path) -> None:
    """The variable was empty. With a name the sessions are ended, for a guest that is named."""
    (tmp_path / "qemu").write_text(
        '#!/bin/bash\n[ "$1/$2" = a/prepare ] || exit 0\nloginctl terminate-user $LEFT_EMPTY\n'
        'loginctl kill-session --signal=9 ""\n'
    )
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert "end = " not in found.text
    assert reasons(found, "wrong").count("had no name, and ended nobody") == 2


def test_units_that_are_not_on_this_host_are_named(tmp_path: Path) -> None:
    """A script passes over them, and libhook refuses the start. A unit that was given need not be there."""
    (tmp_path / "own.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "qemu").write_text(
        '#!/bin/bash\n[ "$2" = prepare ] || exit 0\nsystemctl stop nvidia-persistenced 2>/dev/null || true\n'
        "systemctl stop smbd own\nsystemctl --machine=tim@.host --user stop pipewire\n"
    )
    host = plain()._replace(unit=lambda name: name == "smbd.service")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], host)
    told = [line for line in found.lines if "not on this host" in line]
    assert len(told) == 1
    assert "nvidia-persistenced.service: not on this host, so libhook would refuse the start: take it out" in told[0]


def test_an_end_that_breaks_off_is_told(tmp_path: Path) -> None:
    """bash ends it: what comes after never gives anything back. The code of the last command alone says nothing."""
    for end, is_told in (("set -u\nlocal x=1\n: $unset\nfoo back", True), ("set -e\nfalse\nfoo back", True),
                         ("[ -f /srv/none ] && foo back", False)):  # fmt: skip
        (tmp_path / "end.sh").write_text(f"#!/bin/bash\n{end}\n")
        (tmp_path / "qemu").write_text(
            '#!/bin/bash\n[ "$2" = release ] || exit 0\n/etc/libvirt/hooks/end.sh\nexit $?\n'
        )
        found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
        told = [line for line in found.lines if "what comes after never ran" in line]
        assert bool(told) == is_told, found.lines
        assert not told or "end.sh:" in told[0]


def test_a_note_that_nobody_reads_is_not_written(tmp_path: Path) -> None:
    """Neither in /tmp nor in /run. But one that a program is given, one of a daemon's, and an empty mark are."""
    found = imported(tmp_path, begin="""
echo yes > /tmp/is-nvidia
true | tee /run/sw
echo x > /tmp/given; foo --file /tmp/given
echo y > /run/udev/rules.d/x.rules
touch /run/mark""", end="rm -f /tmp/is-nvidia")  # fmt: skip
    told = fates(found)
    assert told["echo yes > /tmp/is-nvidia"] == told["rm -f /tmp/is-nvidia"] == {"needless"}
    assert "a note that none of the scripts reads" in reasons(found, "needless")
    assert "/run/sw" not in found.text
    assert '"sh", "x", "/tmp/given"]' in found.text
    assert all(path in found.text for path in ("/tmp/given", "/run/udev/rules.d/x.rules", "/run/mark"))


def test_the_program_comes_before_its_user(tmp_path: Path) -> None:
    """What is not on this host needs no word about who would run it."""
    found = imported(tmp_path, program=lambda _name: "", begin="su tim -c 'barrierc 10.0.0.1'")
    assert reasons(found, "left") == "barrierc is not on this host: install it, and import again"


def test_what_runs_in_the_background_needs_no_undo(tmp_path: Path) -> None:
    """It ends with the guest."""
    found = imported(tmp_path, running="/usr/local/bin/watch &\n/usr/local/bin/act")
    told = [line for line in found.lines if "nothing of the scripts undoes" in line]
    assert told == ["  nothing of the scripts undoes run.act: write an undo where it must be undone"]


def test_another_hook_of_libvirt_is_named(tmp_path: Path) -> None:
    """It goes on as it is, and nothing is said about guests."""
    hooks = tmp_path / "etc" / "libvirt" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "network").write_text('#!/bin/bash\n[ "$2" = started ] && sysctl -w net.ipv4.ip_forward=1\n')
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert [line for line in found.lines if line.startswith("  ")] == [
        f"  {hooks}/network is no hook for guests: import reads hooks/qemu, and libvirt goes on running this one"
    ]


def test_what_goes_to_the_journal_is_a_log(tmp_path: Path) -> None:
    """As with logger. A program that systemd-cat runs is run."""
    found = imported(tmp_path, begin="echo $@ | systemd-cat -p info -t hook\nsystemd-cat -t hook foo one")
    told = fates(found)
    assert told["echo $@ | systemd-cat -p info -t hook"] == {"needless"}
    assert told["systemd-cat -t hook foo one"] == {"kept"}


def test_a_folder_of_ones_own_below_libvirts_is_not_libvirts(tmp_path: Path) -> None:
    """What libvirt keeps there, and its configuration, stays."""
    own, libvirts = (
        "rm -f /etc/libvirt/isolate/state",
        ("rm -f /etc/libvirt/qemu/a.xml", "echo x > /etc/libvirt/qemu.conf"),
    )
    found = imported(tmp_path, begin="\n".join((own, *libvirts)))
    assert fates(found) == {own: {"kept"}, **{line: {"danger"} for line in libvirts}}


@pytest.mark.parametrize(
    ("head", "test", "is_told"),
    [
        ("", '[[ $OBJECT == "win11" ]] && foo one', True), ("", 'case "$OBJECT" in win11) foo one;; esac', True),
        ('OBJECT="$1"', '[[ $OBJECT == "win11" ]] && foo one', False),
        ("", '[ "$HOSTNAME" = tower ] && foo one', False),
        ("read -r a OBJECT <<< \"$*\"", '[ "${OBJECT}" = x ] && foo one', False),
        (". /etc/os-release", '[ "$OBJECT" = x ] && foo one', False),
        ("", '[ "${OBJECT:-x}" = y ] && foo one', False), ("", '[ -z "$OBJECT" ] && foo one', False),
    ],
)  # fmt: skip
def test_a_variable_that_is_set_nowhere_is_told(tmp_path: Path, head: str, test: str, is_told: bool) -> None:
    """It hides what depends on it. What another file may set, or the host, is not told."""
    (tmp_path / "qemu").write_text(f"#!/bin/bash\n{head}\n{test}\nexit 0\n")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert ("$OBJECT is set nowhere" in reasons(found, "wrong")) == is_told
