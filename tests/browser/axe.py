# SPDX-License-Identifier: LGPL-2.1-or-later
"""axe-core, which looks for what keeps people from using a page. It comes from PyPI, where a package has it inside."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from chromium import Browser

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libhook-tests"
_SHA256 = "84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc"
"""Of axe-core 4.12.1."""


def source() -> str:
    """The script, which tests/run has fetched."""
    for path in _CACHE.glob("venv-*/lib/python3*/site-packages/axe_playwright_python/axe.min.js"):
        text = path.read_bytes()
        if hashlib.sha256(text).hexdigest() == _SHA256:
            return text.decode()
    raise LookupError(f"the axe-core that we know is nowhere in {_CACHE}: tests/run fetches it, before it plays a test")


def violations(browser: Browser) -> list[tuple[str, Any]]:
    """What is wrong with the page that is open: each rule that is broken, and where.

    The page's policy lets no other script run, so axe runs in a world of its own, beside the page's.
    """
    frame = browser.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
    world = browser.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
    browser.call("Runtime.evaluate", expression=source(), contextId=world)
    rules = "axe.run(document).then(found => JSON.stringify([found.passes.length, found.violations]))"
    answer = browser.call("Runtime.evaluate", expression=rules, contextId=world, awaitPromise=True)
    passed, found = json.loads(answer["result"]["value"])
    assert passed > 10, "it has looked at hardly anything"
    return [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found]
