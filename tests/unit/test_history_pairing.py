# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who had which device from when to when: one test for each rule of who writes what."""

import pytest
from trail_writing import OTHER, UUID, Trail, read, told

BOTH = ["libvirtd", "libhook"]


def _start(trail: Trail, device: str = "0000:01:00.0") -> Trail:
    return trail.device("libhook", "start", device=device).device("libvirtd", "start", device=device).control("start")


def _stop(trail: Trail) -> Trail:
    return trail.device("libhook", "stop").control("stop")


def _brief(*logs: Trail | bytes) -> list[tuple[object, ...]]:
    """How it began and ended, from when to when, the result, who wrote it, whether they disagree."""
    keys = ("began", "ended", "from", "to", "result", "recorded_by", "disagree")
    return [tuple(entry[key] for key in keys) for entry in told(*logs)]


def test_a_life_is_one_entry() -> None:
    """Our record and libvirtd's of a start are one, it ends with ours, and each promised key is there in its order."""
    (entry,) = told(_stop(_start(Trail())))
    assert list(entry.items()) == [
        ("entry", "1795545001.000:11"),
        ("device", "0000:01:00.0"),
        ("bus", "pci"),
        ("vm", "win11"),
        ("uuid", UUID),
        ("began", "start"),
        ("ended", "stop"),
        ("from", 1),
        ("to", 4),
        ("known_until", None),
        ("result", "success"),
        ("recorded_by", BOTH),
        ("disagree", False),
        ("node", None),
        ("ids", None),
        ("vendor", None),
        ("model", None),
        ("ids_from", None),
    ]


def test_ours_comes_when_libvirtd_has_said_everything() -> None:
    """It has not waited for it: one entry all the same, from the first word on, also of what libvirtd names not."""
    log = Trail().device("libvirtd", "start").control("start").device("libhook", "start")
    log.device("libhook", "start", device="0000:02:00.0")
    assert _brief(log.device("libhook", "stop").control("stop")) == [
        ("start", "stop", 1, 5, "success", BOTH, False),
        ("start", "stop", 4, 6, "success", ["libhook"], False),
    ]


@pytest.mark.parametrize(("before", "after", "began", "to"), [(1, 3600, 3, 3603), (3600, 1, 3602, None)])
def test_a_late_word_is_of_the_start_that_it_is_nearer_to(before: int, after: int, began: int, to: int | None) -> None:
    """The guest starts again, and its end was lost: what only ours names was over before, or is of that start."""
    log = Trail().device("libvirtd", "start").control("start")
    log.device("libhook", "start", device="0000:02:00.0", after=before * 1000)
    log.device("libvirtd", "start", after=after * 1000).control("start")
    (ours,) = [entry for entry in told(log) if entry["device"] == "0000:02:00.0"]
    assert (ours["from"], ours["to"], ours["ended"]) == (began, to, None)


def test_what_is_not_ended_is_held() -> None:
    """Neither a time nor a reason of an end."""
    assert _brief(_start(Trail())) == [("start", None, 1, None, "success", BOTH, False)]


@pytest.mark.parametrize("who", ["libvirtd", "virtqemud"])
def test_a_guest_of_which_libvirtd_alone_writes_ends_with_it(who: str) -> None:
    """It writes no record of a device at a stop; its record of the guest says that all are back."""
    log = Trail().device(who, "start").device(who, "start", device="0000:02:00.0").control("start").control("stop")
    assert _brief(log) == [
        ("start", "stop", 1, 4, "success", ["libvirtd"], False),
        ("start", "stop", 2, 4, "success", ["libvirtd"], False),
    ]


def test_a_guest_of_which_libhook_alone_writes() -> None:
    """Of an NVMe disk libvirtd writes nothing; with its audit off, not even that the guest ran."""
    assert _brief(Trail().device("libhook", "start").device("libhook", "stop")) == [
        ("start", "stop", 1, 2, "success", ["libhook"], False)
    ]


def test_a_start_that_failed_is_told_by_the_record_of_the_guest() -> None:
    """Libvirtd says success of each device, whatever happened, and tells the truth of the guest alone."""
    log = Trail().device("libvirtd", "start").control("start", success=False)
    assert _brief(log) == [("start", None, 1, 1, "failed", ["libvirtd"], False)]


def test_libvirtd_and_libhook_disagree_of_a_start_that_failed() -> None:
    """One entry; the true one counts, and that they differ is said."""
    log = Trail().device("libhook", "start", False).device("libvirtd", "start").control("start", success=False)
    assert _brief(log) == [("start", None, 1, 1, "failed", BOTH, True)]


def test_only_the_device_that_failed_is_contradicted() -> None:
    """A start with two devices fails on account of one; of the other only libvirtd writes."""
    log = Trail().device("libhook", "start", False).device("libvirtd", "start")
    log.device("libvirtd", "start", device="0000:02:00.0").control("start", success=False)
    assert _brief(log) == [
        ("start", None, 1, 1, "failed", BOTH, True),
        ("start", None, 3, 3, "failed", ["libvirtd"], False),
    ]


def test_a_start_that_failed_after_the_guest_had_it() -> None:
    """Another hook refuses at started: ours ends with stop, and libvirtd's late words open nothing anew."""
    log = Trail().device("libhook", "start").device("libhook", "stop").device("libvirtd", "start")
    assert _brief(log.control("start", success=False)) == [("start", "stop", 1, 2, "success", BOTH, False)]


def test_a_start_that_failed_is_over_where_no_stop_says_so() -> None:
    """Ours says given, the guest's says failed: it had it until then at most, and they disagree."""
    log = Trail().device("libhook", "start").device("libvirtd", "start").control("start", success=False)
    assert _brief(log) == [("start", "stop", 1, 3, "success", BOTH, True)]


def test_the_next_try_is_another_entry() -> None:
    """A failed start, then one that succeeds."""
    log = Trail().device("libhook", "start", False).device("libvirtd", "start").control("start", success=False)
    assert [entry[4] for entry in _brief(_stop(_start(log)))] == ["failed", "success"]


def test_hot_plug_is_one_entry() -> None:
    """Libvirtd's record first, then ours, both times."""
    log = _start(Trail(), device="0000:02:00.0")
    for reason in ("attach", "detach"):
        log.device("libvirtd", reason).device("libhook", reason)
    assert _brief(log)[1] == ("attach", "detach", 4, 6, "success", BOTH, False)


def test_hot_plug_that_failed() -> None:
    """Each that fails is an entry; both writers' words of one are one."""
    log = _start(Trail(), device="0000:02:00.0")
    log.device("libvirtd", "attach", False).device("libhook", "attach", False, after=29_000)  # a driver that was slow
    log.device("libhook", "attach", False, after=60_000)
    assert _brief(log)[1:] == [
        ("attach", None, 4, 4, "failed", BOTH, False),
        ("attach", None, 93, 93, "failed", ["libhook"], False),
    ]


def test_hot_plug_and_out_again_before_the_watch_could_write() -> None:
    """libvirtd's words of both come first, then those of libhook's watch; the next time is another."""
    log = Trail().control("start").device("libvirtd", "attach").device("libvirtd", "detach")
    log.device("libhook", "attach").device("libhook", "detach")
    log.device("libvirtd", "attach").device("libhook", "attach")
    assert _brief(log) == [
        ("attach", "detach", 2, 3, "success", BOTH, False),
        ("attach", None, 6, None, "success", BOTH, False),
    ]


def test_hot_plug_after_a_refusal_of_ours_is_another_try() -> None:
    """Libhook refused, and then somebody did it with virsh."""
    log = Trail().device("libhook", "attach", False).device("libvirtd", "attach")
    assert _brief(log) == [
        ("attach", None, 1, 1, "failed", ["libhook"], False),
        ("attach", None, 2, None, "success", ["libvirtd"], False),
    ]


def test_libvirtd_and_libhook_disagree_of_a_hot_plug() -> None:
    """Of that libvirtd tells the truth: the guest has it."""
    log = Trail().device("libvirtd", "attach").device("libhook", "attach", False)
    assert _brief(log) == [("attach", None, 1, None, "success", BOTH, True)]


def test_a_detach_that_failed_ends_nothing() -> None:
    """The guest has it still, until it ends."""
    log = _start(Trail()).device("libvirtd", "detach", False)
    assert _brief(_stop(log)) == [("start", "stop", 1, 5, "success", BOTH, False)]


def test_a_device_that_was_plugged_in_ends_with_its_guest() -> None:
    """By libvirtd's record of the guest where ours is missing."""
    log = Trail().control("start").device("libvirtd", "attach").control("stop")
    assert _brief(log) == [("attach", "stop", 2, 3, "success", ["libvirtd"], False)]


def test_a_host_that_boots_has_no_guest() -> None:
    """How it ended is unknown; it was over by then."""
    log = _start(Trail()).raw("SYSTEM_BOOT", "pid=1 uid=0 msg=' comm=\"systemd-update-utmp\" res=success'")
    assert _brief(log) == [("start", None, 1, 4, "success", BOTH, False)]


def test_a_guest_that_starts_again_had_ended() -> None:
    """Whatever it held then, plugged in or not, is over by that time, and how is unknown."""
    log = _start(Trail()).device("libvirtd", "attach", device="0000:02:00.0")
    assert _brief(_start(log)) == [
        ("start", None, 1, 5, "success", BOTH, False),
        ("attach", None, 4, 5, "success", ["libvirtd"], False),
        ("start", None, 5, None, "success", BOTH, False),
    ]


def test_a_guest_that_starts_again_without_libvirtds_words() -> None:
    """Our record alone tells, and those of the same start stand by each other."""
    log = Trail().device("libhook", "start").device("libhook", "start", device="0000:02:00.0")
    log.device("libhook", "start", device="0000:03:00.0", after=3_600_000)
    log.device("libhook", "start").device("libhook", "stop")
    assert [(entry["device"][5:7], entry["ended"], entry["from"], entry["to"]) for entry in told(log)] == [
        ("01", None, 1, 3602),
        ("02", None, 2, 3602),
        ("03", None, 3602, None),
        ("01", "stop", 3603, 3604),
    ]


def test_a_pci_device_is_held_by_one_guest() -> None:
    """By the last that got it: of the other's end there is no record. A start that may have failed proves nothing."""
    log = _start(Trail())
    log.device("libvirtd", "start", uuid=OTHER)
    assert [entry["to"] for entry in told(log)] == [None, None]
    log.control("start", uuid=OTHER)
    assert [(entry["ended"], entry["to"]) for entry in told(log)] == [(None, 4), (None, None)]
    log = Trail("here").device("libvirtd", "attach")
    there = Trail("there").device("libvirtd", "attach", uuid=OTHER)
    assert [entry["to"] for entry in told(log, there)] == [None, None], "of one host"


def test_a_stop_that_failed_is_an_end() -> None:
    """The guest has it no more; that the host has it neither is kept beside, until it is given back."""
    log = _start(Trail()).device("libhook", "stop", False).control("stop")
    (entry,) = read([bytes(log)])[0]
    assert (entry.ended, entry.unreturned) == ("stop", True)
    log.device("libhook", "stop", after=86_400_000)
    (entry,) = read([bytes(log)])[0]
    assert (entry.ended, entry.unreturned) == ("stop", False)


def test_a_late_give_back_is_no_entry() -> None:
    """Libvirtd ended the guest, the hook was killed, and recover recorded the end a day later."""
    log = _start(Trail()).control("stop").device("libhook", "stop", after=86_400_000)
    assert _brief(log) == [("start", "stop", 1, 4, "success", BOTH, False)]


def test_what_began_before_the_trail_is_not_lost() -> None:
    """Its beginning is unknown."""
    assert _brief(_stop(Trail())) == [(None, "stop", None, 1, "success", ["libhook"], False)]


def test_what_began_in_a_silence_is_not_lost() -> None:
    """The guest had it before, and both told of that end: this one is another's. libvirtd is never late."""
    log = Trail().control("start")
    for reason in ("attach", "detach"):
        log.device("libvirtd", reason).device("libhook", reason)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    for who in ("libvirtd", "libhook"):
        assert _brief(bytes(log) + bytes(Trail(now=log.now).device(who, "detach"))) == [
            (None, "detach", None, 607, "success", [who], False),
            ("attach", "detach", 2, 4, "success", BOTH, False),
        ]
    log = Trail().control("start").device("libvirtd", "attach").device("libvirtd", "detach")
    assert [entry[0] for entry in _brief(log.device("libvirtd", "detach", after=600_000))] == [None, "attach"]


def test_a_late_word_of_a_detach_is_no_entry() -> None:
    """libhook's watch was stopped, and makes up for it when it is back."""
    log = Trail().control("start").device("libvirtd", "attach").device("libhook", "attach").device("libvirtd", "detach")
    assert _brief(log.device("libhook", "detach", after=600_000)) == [
        ("attach", "detach", 2, 4, "success", ["libvirtd", "libhook"], False)
    ]


def test_a_clock_that_was_set_back_does_not_turn_a_failure_into_success() -> None:
    """The order of the log counts: a start that fails after it, and a USB device that libvirtd did not find then."""
    log = Trail().control("start", after=3_600_000).control("stop")
    log.device("libhook", "start", False, after=-1_800_000).device("libvirtd", "start").control("start", False)
    assert _brief(log) == [("start", None, 1801, 1801, "failed", BOTH, True)]
    log = Trail().control("start", after=3_600_000).control("stop")
    log.device("libhook", "start", bus="usb", device="001.002", after=-1_800_000)
    log.device("libvirtd", "start", bus="usb", device="000.000").control("start")
    assert [entry["device"] for entry in told(log)] == ["001.002"]


def test_a_usb_device_that_libvirtd_did_not_find_is_the_one_that_ours_names() -> None:
    """Where each of them has one; two of them cannot be told apart."""
    log = Trail().device("libhook", "start", False, bus="usb", device="001.002")
    log.device("libvirtd", "start", bus="usb", device="000.000").control("start", success=False)
    assert [(entry["device"], entry["disagree"], entry["recorded_by"]) for entry in told(log)] == [
        ("001.002", True, BOTH)
    ]
    log = Trail().device("libhook", "start", False, bus="usb", device="001.002")
    log.device("libhook", "start", False, bus="usb", device="001.003")
    for _ in range(2):
        log.device("libvirtd", "start", bus="usb", device="000.000")
    found = told(log.control("start", success=False))
    assert [(entry["device"], entry["result"]) for entry in found] == [
        ("001.002", "failed"),
        ("001.003", "failed"),
        ("000.000", "failed"),
        ("000.000", "failed"),
    ]


def test_devices_written_alike_are_counted() -> None:
    """Redirected USB has no address: two were plugged in, one was taken out, and both words of a detach are one."""
    log = Trail().control("start")
    for reason in ("attach", "attach", "detach"):
        log.device("libvirtd", reason, bus="usb", device="USB redirdev")
    assert [(entry["device"], entry["from"], entry["to"]) for entry in told(log)] == [
        ("USB redirdev", 2, 4),
        ("USB redirdev", 3, None),
    ]


def test_guests_and_nodes_are_kept_apart() -> None:
    """The same device of the same guest on two hosts, and of two guests of the same name on one."""
    here, there = _start(Trail("here")), _start(Trail("there")).control("stop")
    log = here.lines + there.lines + Trail("here", now=here.now).control("stop", uuid=OTHER).lines
    found = told(b"\n".join(log))
    assert [(entry["node"], entry["ended"]) for entry in found] == [("here", None), ("there", "stop")]


def test_who_wrote_is_told_by_the_executable() -> None:
    """Somebody else's record is nobody's of the two."""
    assert told(Trail().device("/opt/a b", "start"))[0]["recorded_by"] == ["/opt/a b"]
