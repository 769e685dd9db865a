# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is logged, with and without structlog."""

import errno
import sys
from unittest import mock

import pytest
from disturbing import refusing

from libhook.effects.log import Log
from libhook.facts.machine import Machine
from libhook.look.linux import LinuxKernel


def _logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the log's child hands over, less the times."""
    found: list[dict[str, object]] = []

    class Heard(LinuxKernel):
        def log(self, fields: dict[str, object]) -> None:
            assert isinstance(fields["time"], float)
            found.append({name: value for name, value in fields.items() if name != "time"})

    monkeypatch.setattr("os.nice", lambda _: 0)
    with refusing("fork", errno.EAGAIN), Log(Machine("", Heard()), guest="win\n11") as log:
        log.add("warning", "passed over", reason="it is missing")
        log.add("error", "not given back", device="0000:01:00.0", code=5)
        log.add("info", "done", what=KeyError("a\nb"))  # type: ignore[arg-type] # a kind's own field may be anything
    return found


def test_a_log_without_structlog_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not packaged everywhere, and no guest's log may depend on it."""
    with mock.patch.dict(sys.modules, {"structlog": None}):
        plain = _logged(monkeypatch)
    assert plain == [
        {"level": "warning", "event": "passed over", "guest": "win\\n11", "reason": "it is missing"},
        {"level": "error", "event": "not given back", "guest": "win\\n11", "device": "0000:01:00.0", "code": 5},
        {"level": "info", "event": "done", "guest": "win\\n11", "what": "'a\\nb'"},
    ]
    pytest.importorskip("structlog")
    assert _logged(monkeypatch) == plain
