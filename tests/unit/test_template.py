# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest's name and UUID become in its settings. The name is somebody else's choice."""

import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_reading import FILE, files, merged, parse

from libhook.errors import BadInput
from libhook.facts import complaints, keys
from libhook.facts.mountpoint import escaped
from libhook.facts.unit import is_name
from libhook.facts.written import quoted, written

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
KNOWN = "the known ones are {name} and {uuid}; a brace itself is written twice"


def _units(entry: str, name: str) -> Any:  # noqa: ANN401 - as the settings have it
    return parse(f"units = {{ {quoted(entry)} = 'up' }}\n", name, UUID).actions["units"]


@pytest.mark.parametrize(
    ("text", "name", "unit"),
    [
        ("my@{name}.service", "win11", "my@win11.service"),
        ("my@{name}.service", "Win-11 ä/..", r"my@Win\x2d11\x20\xc3\xa4-...service"),
        ("my@{name}.service", "..", r"my@\x2e..service"),
        ("my@{name}.service", "*@{uuid}", r"my@\x2a\x40\x7buuid\x7d.service"),
        ("my@{uuid}.service", "x", rf"my@{UUID.replace('-', chr(92) + 'x2d')}.service"),
        ("my@a{name}b{name}.timer", "x", "my@axbx.timer"),
        ("{name}-helper.service", "win-11", "win-11-helper.service"),
        ("helper-{uuid}.service", "a b", f"helper-{UUID}.service"),
        ("mnt-{name}.mount", "win-11", r"mnt-win\x2d11.mount"),
        ("a*@{name}.service", "[x]", r"a*@\x5bx\x5d.service"),
    ],
)
def test_a_unit_has_the_name_in_one_piece(text: str, name: str, unit: str) -> None:
    """Escaped in an instance and in a path; as it is elsewhere. What it brings is never a pattern or a placeholder."""
    assert _units(text, name) == {unit: "up"}


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("{name}.service", "a b", "that is no part of a unit's name: use it behind an @, or use {uuid}"),
        ("{name}.service", "a@b", "that is no part of a unit's name"),
        ("{name}.service", "*", "that is no part of a unit's name"),
        ("{name}.service", "a/b", "that is no part of a unit's name"),
        ("{name}.service", r"a\x2fb", "that is no part of a unit's name"),
        ("{name}.service", "-x", "-x.service is no unit's name: correct it, or give the guest another name"),
        ("my@{name}.service", "x" * 250, f"my@{'x' * 250}.service is no unit's name"),
        ("mnt-{name}.mount", "..", "that is no part of a unit's name"),
        ("mnt-{name}.mount", "a/b", "that is no part of a unit's name"),
    ],
)
def test_a_name_that_no_unit_can_have_refuses_the_guest(text: str, name: str, why: str) -> None:
    """With the file and the line."""
    with pytest.raises(BadInput) as refused:
        _units(text, name)
    assert f"{refused.value.message}: {refused.value.hint}".startswith(
        f'{FILE}, line 1: units."{text}" cannot be for the guest {quoted(name)}: {why}'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('units = {"a@{nmae}.service" = "up"}', '1: unknown placeholder {nmae} in units."a@{nmae}.service": it should'),
        ('units = {"a@{NAME}.service" = "up"}', '1: unknown placeholder {NAME} in units."a@{NAME}.service": it should'),
        ('[units]\n"a@{x1}.service" = "up"', f'2: unknown placeholder {{x1}} in units."a@{{x1}}.service": {KNOWN}'),
        ('units = {"a{name}" = "up"}', '1: units."a{name}" is wrong: it must be the whole name'),
        ('units = {"a.{name}" = "up"}', '1: units."a.{name}" is wrong: it must be the whole name'),
        ('units = {"a@{{.service" = "up"}', '1: units."a@{{.service" is wrong: it must be the whole name'),
    ],
)
def test_a_wrong_brace_is_an_error_of_the_settings(text: str, said: str) -> None:
    """With file, line, key, and what was probably meant."""
    found = files(text + "\n")
    (complaint,) = complaints.of(found, found.problems)
    assert complaint.text.startswith(f"{FILE}, line {said}")
    if "it should" in said:
        assert complaint.text.endswith('it should probably be "{name}"')


def test_all_wrong_braces_are_said() -> None:
    """One error for each."""
    found = files('[units]\n"a@{a}{b}.service" = "up"\n"b@{c}.service" = "up"\n')
    assert [complaint.line for complaint in complaints.of(found, found.problems)] == [2, 2, 3]
    with pytest.raises(BadInput) as refused:
        merged(found, "win11", UUID)
    assert refused.value.hint.endswith("; and 2 more: libhook config shows them")


def test_an_error_of_one_guest_is_said_beside_those_of_others() -> None:
    """What cannot be filled in for this guest is an error that the files alone do not have."""
    text = '[units]\n"{name}.service" = "up"\n'
    with pytest.raises(BadInput) as refused:
        parse(text, "a b", UUID)
    assert refused.value.hint == "use it behind an @, or use {uuid}"
    with pytest.raises(BadInput) as refused:
        parse(f"{text}[domains.x]\ny = 1\n", "a b", UUID)
    assert refused.value.hint.endswith("; and 1 more: libhook config shows them")


def test_the_most_specific_section_wins_by_the_filled_in_name() -> None:
    """A guest's own section may say otherwise for its own instance."""
    text = '[units]\n"a@{name}.service" = "up"\n[domains.win11.units]\n"a@win11.service" = "down"\n'
    assert parse(text, "win11", UUID).actions == {"units": {"a@win11.service": "down"}}
    assert parse(text, "linux", UUID).actions == {"units": {"a@linux.service": "up"}}


def test_two_entries_of_one_section_that_are_one_refuse_the_guest() -> None:
    """Nobody knows which is meant."""
    text = '[units]\n"a@win11.service" = "down"\n"a@{name}.service" = "up"\n'
    with pytest.raises(BadInput, match=r'line 3: .* guest "win11": it is a@win11\.service, which is there already$'):
        parse(text, "win11", UUID)
    assert parse(text, "x", UUID).actions["units"] == {"a@win11.service": "down", "a@x.service": "up"}


def test_a_brace_in_another_table_is_just_a_brace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these two have something to fill in."""
    monkeypatch.setitem(keys.OF_KINDS, "others", lambda _: "")
    assert parse('others = {a = "{b} {name}"}\n', "win11", UUID).actions == {"others": {"a": "{b} {name}"}}


def test_what_is_not_known_stays_as_it_is_written() -> None:
    """As in ``libhook config`` for a guest that is not defined yet."""
    text = '[units]\n"a@{name}.service" = "up"\n"a@{uuid}.service" = "up"\n'
    assert parse(text, "x").actions == {"units": {"a@x.service": "up", "a@{uuid}.service": "up"}}


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="systemd is not installed")
def test_a_name_is_escaped_as_systemd_does() -> None:
    """Held against its own program, for each character of ASCII and some more."""
    texts = [*map(chr, range(1, 128)), *(f"a{chr(one)}" for one in range(1, 128)), "äß…", "..", "-.", "a/b.c", r"\x2d"]
    for text in texts:
        done = subprocess.run(
            ["systemd-escape", "--", text], stdout=subprocess.PIPE, text=True, check=True, timeout=200
        )
        assert done.stdout == f"{escaped(text)}\n"


@given(
    st.text(min_size=1), st.sampled_from(["a@{name}.service", "{name}.service", "mnt-{name}.mount", "a@b{name}.path"])
)
def test_no_name_makes_another_unit_than_one_of_its_place(name: str, text: str) -> None:
    """What stands before and behind it stays, and it is a legal name."""
    before, after = text.split("{name}")
    try:
        (unit,) = parse("units = {" + quoted(text) + " = 'up'}\n", name, UUID).actions["units"]
    except BadInput:
        assert "@" not in before or len(name.encode("utf-8", "surrogateescape")) > 50
        return
    own = unit.removeprefix(before).removesuffix(after)
    assert unit == before + own + after
    assert is_name(unit)
    assert "@" not in own
    assert own


@pytest.mark.parametrize(
    ("field", "text", "name", "found"),
    [
        ("file", "/srv/{name}/{uuid}.img", "a b{uuid}", f"/srv/a b{{uuid}}/{UUID}.img"),
        ("file", "/srv/../{{{name}", "x", "/srv/../{x"),
        ("process", "/opt/{name}", "win-11", "/opt/win-11"),
        ("unit", "my@{name}.service", "a b", r"my@a\x20b.service"),
        ("reason", "start {name} later", "$(x)", 'start "$(x)" later'),
    ],
)
def test_a_requirement_has_the_name(field: str, text: str, name: str, found: str) -> None:
    """In each of its texts."""
    table: dict[str, Any] = {"file": "/a", field: text} if field == "reason" else {field: text, "absent": True}
    config = parse("".join(f"require.a.{key} = {written(value)}\n" for key, value in table.items()), name, UUID)
    assert config.actions["require"]["a"] == {**table, field: found}


@pytest.mark.parametrize("name", ["a/b", "..", "."])
def test_a_name_that_leads_out_of_its_part_of_a_path_refuses_the_guest(name: str) -> None:
    """A file that must be absent would be another one."""
    with pytest.raises(BadInput, match=r"require.a cannot be for the guest .*: that is no part of a path$") as refused:
        parse("require.a.file = '/srv/{name}'\n", name, UUID)
    assert refused.value.hint == "use {uuid}"


@pytest.mark.parametrize("text", ["{nmae}", "{"])
def test_a_wrong_brace_in_a_requirement_is_an_error(text: str) -> None:
    """Nothing would be found there, and nobody would know."""
    with pytest.raises(BadInput, match=r"in require\.a$"):
        parse(f"require.a.file = '/srv/{text}'\n", "win11", UUID)


def _mounts(path: str, name: str) -> Any:  # noqa: ANN401 - as the settings have it
    return parse(f"mounts = [{quoted(path)}]\n", name, UUID).actions["mounts"]


@pytest.mark.parametrize(
    ("path", "name", "found"),
    [
        ("/srv/{name}", "win 11", "/srv/win 11"),
        ("/srv/{uuid}/a-{name}", "x", f"/srv/{UUID}/a-x"),
        ("/srv/{{x}}", "win11", "/srv/{x}"),
        ("/srv/{name}", "{uuid}", "/srv/{uuid}"),
    ],
)
def test_a_mount_point_has_the_name_in_one_part_of_its_path(path: str, name: str, found: str) -> None:
    """Nothing reads it again."""
    assert _mounts(path, name) == [found]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/{name}", "a/b"),
        ("/srv/{name}", ".."),
        ("/{name}", "usr"),
        ("/srv/{name}", "a\nb"),
        ("/srv/{name}", "\u00e4" * 100),
    ],
)
def test_a_name_that_makes_another_mount_point_refuses_the_guest(path: str, name: str) -> None:
    """One of the host's own, say."""
    with pytest.raises(BadInput, match=r"mounts cannot be for the guest ") as refused:
        _mounts(path, name)
    assert refused.value.hint == "use {uuid}"


@pytest.mark.parametrize("path", ["/srv/{nmae}", "/srv/{"])
def test_a_wrong_brace_in_a_mount_point_is_an_error(path: str) -> None:
    """Nothing would be mounted there, and nobody would know."""
    with pytest.raises(BadInput, match=r"in mounts$"):
        _mounts(path, "win11")
