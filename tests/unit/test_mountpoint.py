# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mount points and the names of their units, as systemd has them."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libhook.facts.mountpoint import is_mount_point, is_of_host, path_of, unit_of
from libhook.facts.unit import is_name, is_protected, parse

NAMES = {
    "/": "-.mount",
    "/srv/data": "srv-data.mount",
    "/srv/lab data/a-b": r"srv-lab\x20data-a\x2db.mount",
    "/.a/.ä": r"\x2ea-.\xc3\xa4.mount",
    "/a\\b": r"a\x5cb.mount",
}


@pytest.mark.parametrize("path", NAMES)
def test_a_mount_point_has_the_name_that_systemd_gives_it(path: str) -> None:
    """In both directions, also for its automount."""
    assert (unit_of(path), path_of(NAMES[path])) == (NAMES[path], path)
    assert path_of(NAMES[path].replace(".mount", ".automount")) == path
    if program := shutil.which("systemd-escape"):
        command = [program, "--path", "--suffix=mount", "--", path]
        assert (
            subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
            == f"{NAMES[path]}\n"
        )


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), st.text("ab-.\\ ", min_size=1))
def test_every_mount_point_comes_back_from_its_unit(one: str, other: str) -> None:
    """Whatever is in its name."""
    path = f"/{one}/{other}"
    if is_mount_point(path):
        unit = unit_of(path)
        assert path_of(unit) == path
        assert is_name(unit) or len(unit) > 255


@pytest.mark.parametrize(("unit", "path"), [("a.service", ""), (r"a\xzz-b.mount", r"/a\xzz/b"), ("--a.mount", "/a")])
def test_other_names(unit: str, path: str) -> None:
    """Of other units, and such as systemd makes none."""
    assert path_of(unit) == path


@pytest.mark.parametrize("text", ["", "srv", "/srv/", "//srv", "/srv//a", "/srv/.", "/../srv", "LABEL=x"])
def test_what_is_no_mount_point(text: str) -> None:
    """The kernel shows none so."""
    assert not is_mount_point(text)


def test_what_the_host_always_needs() -> None:
    """By the unit's name, too: others may begin as units of libvirt's or systemd's do."""
    needed = ("/", "/usr", "/usr/local", "/etc", "/var", "/run", "/dev/shm", "/sys/fs/x", "/run/libvirt/x")
    assert all(map(is_of_host, needed))
    assert all(is_protected(unit_of(path)) for path in needed)
    free = ("/srv", "/home", "/boot", "/boot/efi", "/var/lib/x", "/run/media/tim/a", "/virt/images", "/user@x", "/usrx")
    assert not any(map(is_of_host, free))
    assert not any(is_protected(unit_of(path)) for path in free)


def test_the_targets_of_all_mounts_do_not_stop_with_one() -> None:
    """For another unit they do."""
    fields = "ActiveState=active\nRequiredBy=local-fs.target a.service remote-fs.target\n"
    mount, service = parse(f"Id=srv.mount\n{fields}\nId=b.service\n{fields}")
    assert mount.stops_with == ("a.service",)
    assert service.stops_with == ("local-fs.target", "a.service", "remote-fs.target")
