# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``libhook history`` says of one host's trail is not read as of another's."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from trail_writing import OTHER, Trail

from libhook.command import parsing
from libhook.history import command

Run = Callable[..., str]
YEAR = 365 * 86_400_000


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run it on the logs of these hosts: what it prints, and of a page the words."""

    def ran(logs: list[Trail], *arguments: str) -> str:
        given = []
        for number, log in enumerate(logs):
            (path := tmp_path / f"log{number}").write_bytes(bytes(log))
            given += ["-if", str(path)]
        assert command.run("", parsing.parser().parse_args(["history", *given, *arguments])) == 0
        text = capsysbinary.readouterr()[0].decode()
        if "<body>" in text:
            text = re.sub(r"<[^>]*>", " ", text.split("<body>")[1].split("<script>")[0])
        return re.sub(" +", " ", unescape(text))

    return ran


def test_hours_are_told_in_a_trail_of_a_year(run: Run) -> None:
    """Although they are less than a column of the time line: who has the device now is not known."""
    logs = [Trail(node).raw("USER_ACCT", "x") for node in ("kvm2", "kvm1")]
    for log, after in zip(logs, (YEAR - 36_000_000, YEAR), strict=True):
        log.raw("USER_ACCT", "x", after=after).device("libhook", "start")
    text = run(logs, "--html", "-")
    assert re.search(r"on kvm2\s+now:\s+win11\s+when its log ends, 2027-11-2", text)
    assert "kvm1 : " not in text


@pytest.mark.parametrize("reason", ["start", "stop", ""])
def test_a_trail_of_one_record_ends_with_it(run: Run, reason: str) -> None:
    """It goes from this moment to this moment, and no host's log ends before it. Also where no device is named."""
    log = Trail("kvm1").device("libhook", reason) if reason else Trail("kvm1").raw("USER_ACCT", "x")
    text = " ".join(run([log], "--html", "-").split())
    assert re.search(r"From the audit trail, ([-0-9]{10} [:0-9]{8}) to \1 \(local", text)
    assert re.search(r"From ([-0-9]{10} [:0-9]{8}) to \1 no gap in the trail is recorded\.", text)
    assert "log ends" not in text


def test_a_gap_of_a_host_without_a_name_is_not_one_of_all(run: Run) -> None:
    """auditd writes no name of its own host. Beside logs of others, that is said."""
    own = Trail().device("libhook", "start").raw("USER_ACCT", "x", after=60_000)
    own.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=60_000)
    other = Trail("kvm1").device("libhook", "start", vm="web", uuid=OTHER).raw("USER_ACCT", "x", after=90_000)
    lines = run([own, other]).splitlines()
    assert lines[-3].startswith("-- the host without a name: no trail from 2026-11-2")
    assert lines[-2].startswith("-- the trail of the host without a name is from 2026-11-2")
    assert "; the trail of the host without a name covers 2026-11-2" in run([own, other], "-ts", "2026-11-23")
    assert "-- the host without a name: no trail" in run([own, other], "--vm", "none")
    assert "the host without a name: from 2026-11-2" in run([own, other], "--html", "-")
    assert "without a name" not in run([own]) + run([own], "--html", "-")
