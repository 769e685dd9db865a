# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of what guests share: /run is full or gone, the file is broken, a link, of another boot, or too new."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
from disturbing import WITHOUT_INODES, WITHOUT_PAGES, full, read_only
from sharing import BASE, UUIDS, Sharing, failed, writes

from libhook.errors import BadInput, pasted
from libhook.facts.shared import Shared, file_name
from libhook.kinds.kind import Failure

_BOTH = (WITHOUT_INODES, WITHOUT_PAGES)


@pytest.mark.parametrize("what", _BOTH)
def test_a_full_run_refuses_a_claim_and_changes_nothing(root: str, what: str) -> None:
    """What cannot be journalled is not done."""
    sharing = Sharing(root)
    uuid = UUIDS["a"]
    with full(sharing.host, what), mock.patch.object(type(sharing.host.state), "save"):
        refused = failed(sharing.begin("a"))
    assert refused == Failure(
        f"the toy: the journal in {sharing.host.machine.state} cannot be written (No space left on device)",
        "make room there, then start the guest again",
    )
    assert (writes(sharing), uuid in sharing.host.state.uuids()) == ([], False)
    assert sharing.wrong_in_the_end() == []


@pytest.mark.parametrize("what", _BOTH)
def test_a_full_run_holds_nothing_back(root: str, what: str) -> None:
    """What is given back is, for the first guest to end and for the last."""
    sharing = Sharing(root)
    sharing.begin("a")
    sharing.begin("b")
    with full(sharing.host, what):
        assert (sharing.end("b"), sharing.value()) == (None, "16")
        assert (sharing.end("a"), sharing.value()) == (None, BASE)
    assert sharing.wrong_in_the_end() == []


def test_a_run_that_is_read_only_holds_the_base_not_back(root: str) -> None:
    """The last to end gives it back, and the file that is left says nothing wrong to who comes next."""
    sharing = Sharing(root)
    sharing.begin("a")
    sharing.begin("b")
    with read_only(sharing.host):
        assert "Read-only file system" in failed(sharing.release("b")).reason
        assert sharing.value() == "32"
    assert sharing.end("b") is None
    with read_only(sharing.host):
        assert sharing.release("a") is None
        assert sharing.value() == BASE
    sharing.tamper("11")  # the administrator's, before anybody has tidied up
    sharing.host.state.forget(UUIDS["a"])
    assert (sharing.begin("c"), sharing.value(), sharing.end("c"), sharing.value()) == (None, "24", None, "11")
    assert sharing.host.leftovers == []


def test_a_run_that_somebody_cleared_refuses_a_claim(root: str) -> None:
    """As for a device."""
    sharing = Sharing(root)

    def gone(_state: object, folder: str, _name: str) -> None:
        if folder == "in-flight":
            shutil.rmtree(sharing.host.machine.state)

    with mock.patch.object(type(sharing.host.state), "remove", gone):
        refused = failed(sharing.acquire("a"))
    assert refused.reason == f"the toy: somebody removed the journal in {sharing.host.machine.state}"
    assert writes(sharing) == []


_BROKEN = ["", "{", "[]", '{"format": 1}', "[" * 100_000, "\xff", '{"format": "1"}']


@pytest.mark.parametrize("text", _BROKEN, ids=range(len(_BROKEN)))
def test_a_broken_file_refuses_a_start_and_holds_no_guest_back(root: str, text: str) -> None:
    """Nobody knows the base: the file is named, with what to do; a guest that ends is done with it."""
    sharing = Sharing(root)
    sharing.begin("a")
    sharing.file.write_text(text)
    remedy = f"set the toy by hand, then run: rm {pasted(str(sharing.file))}"
    refused = failed(sharing.acquire("b"))
    assert refused.reason.startswith(f"{sharing.file} is broken (")
    assert refused.remedy == remedy
    said = sharing.end("a")
    assert isinstance(said, str)
    assert said.startswith(f"the toy stays as it is: {sharing.file} is broken (")
    assert (sharing.value(), UUIDS["a"] in sharing.host.state.uuids()) == ("16", False)
    sharing.tamper(BASE)
    sharing.file.unlink()
    assert (sharing.begin("b"), sharing.end("b")) == (None, None)
    assert sharing.wrong_in_the_end() == []


def test_each_field_is_looked_at(root: str) -> None:
    """A file in which a single one is not as libhook writes it, or that is of another thing, is broken."""
    sharing = Sharing(root)
    sharing.begin("a")
    good = json.loads(sharing.file.read_text())
    assert Shared.from_json(good).to_json() == good
    bad = {"resource": 1, "boot": None, "base": 8, "last": [], "claims": [], "intent": ["8"], "format": None}
    for field, value in [
        *bad.items(),
        ("claims", {"../../etc/passwd": "1"}),
        ("claims", {"../" * 12: "1"}),
        ("claims", {UUIDS["a"]: 1}),
        ("intent", ["8", None]),
    ]:
        with pytest.raises(BadInput, match="it does not hold the claims to a shared thing"):
            Shared.from_json({**good, field: value})
        with pytest.raises(BadInput, match="it does not hold the claims"):
            Shared.from_json({name: one for name, one in good.items() if name != field})
    sharing.file.write_text(json.dumps({**good, "resource": "another"}))
    assert "is broken (it is of another)" in str(sharing.settle())


def test_a_link_or_another_s_file_is_not_followed(root: str, tmp_path: Path) -> None:
    """What is not ours is broken as well; where it points to is neither read nor changed."""
    sharing = Sharing(root)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not libhook's")
    sharing.file.symlink_to(elsewhere)
    assert failed(sharing.begin("a")).reason == f"{sharing.file} is a symbolic link"
    assert (elsewhere.read_text(), sharing.value(), sharing.host.state.uuids()) == ("not libhook's", BASE, ())


def test_what_a_later_version_wrote_is_left_to_that_one(root: str) -> None:
    """Neither a start nor an end touches it, and the guest's entry stays."""
    sharing = Sharing(root)
    sharing.begin("a")
    text = json.dumps({**json.loads(sharing.file.read_text()), "format": 2})
    sharing.file.write_text(text)
    for result in (sharing.begin("b"), sharing.end("a"), sharing.settle()):
        assert "a later libhook wrote it, in format 2; this version reads 1" in failed(result).reason
    assert (sharing.file.read_text(), sharing.value()) == (text, "16")
    assert set(sharing.host.state.uuids()) == {UUIDS["a"], UUIDS["b"]}


def test_a_file_of_another_boot_says_nothing(root: str) -> None:
    """The thing is the kernel's own after a boot; where the boot is not to be known, it is of this one."""
    sharing = Sharing(root)
    sharing.begin("a")
    boot = Path(sharing.host.machine.proc, "sys/kernel/random/boot_id")
    before = boot.read_text()
    boot.write_text("")
    assert sharing.settle() is None
    assert sharing.claimants() == {"a"}
    boot.write_text(before.replace("8", "9"))
    assert sharing.begin("b") is None
    assert sharing.claimants() == {"b"}
    assert (sharing.end("b"), sharing.value()) == (None, "16")
    boot.write_text(before)
    assert sharing.begin("a") is None
    boot.write_text(before.replace("8", "9"))
    assert (sharing.end("a"), sharing.host.leftovers) == (None, [])


def test_names_are_safe_and_stay_apart() -> None:
    """No dot, no slash, nothing that a shell or the file system would take for more; two names are never one."""
    names = ["vm.swappiness", "vm/swappiness", "vm_swappiness", "../x", "a b", "ä", "%2E", ".", "\n", "A-1"]
    files = [file_name(name) for name in names]
    assert files[0] == "vm%2Eswappiness"
    assert len({*files}) == len(files)
    assert all(set(name) <= {*"%-_", *map(chr, range(48, 58)), *map(chr, range(65, 91)), *map(chr, range(97, 123))}
               for name in files)  # fmt: skip
    with pytest.raises(BadInput, match="must have a name"):
        file_name("")


def test_a_long_name_ends_in_its_hash() -> None:
    """As a unit's may be: each byte that is not plain takes three. No other name gives that."""
    assert file_name("x" * 200) == "x" * 200
    long = [file_name(name) for name in ("x" * 201, "x" * 202, "." * 67, "ж" * 255)]
    assert [len(name) for name in long] == [200] * 4
    assert len({*long}) == 4
    assert all("%%" in name for name in long)
