# SPDX-License-Identifier: LGPL-2.1-or-later
"""axe-core, which looks for what keeps people from using a page. It comes from PyPI, where a package has it inside."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from chromium import Browser

WHEEL = "axe_playwright_python-0.1.8-py3-none-any.whl"
"""It has axe-core 4.12.1. Nothing else in it is used."""
PINNED = "axe-playwright-python==0.1.8 --hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8\n"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libhook-tests"


def source() -> str:
    """The script. It is fetched once; pip checks that it is the one that we know."""
    wheel = _CACHE / WHEEL
    if not wheel.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        wanted = _CACHE / "axe.txt"
        wanted.write_text(PINNED)
        ours = sorted(map(str, _CACHE.glob("venv-*/bin/python")))  # tests/run makes it, with a pip
        command = [
            ours[0] if ours else sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "download",
        ]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(_CACHE), "-r", str(wanted)]
        subprocess.run(command, check=True, timeout=120)
    with zipfile.ZipFile(wheel) as file:
        return file.read("axe_playwright_python/axe.min.js").decode()


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
