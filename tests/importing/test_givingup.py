# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a script gives up: a step whose failure ends it refuses the start, any other does not."""

from pathlib import Path

import pytest

from libhook.importing import sources
from libhook.importing.done import Place
from libhook.importing.givingup import GivingUp
from libhook.importing.sources import HOOKS

HEAD = """#!/bin/bash
stop() { echo "$1"; exit 1; }
function leave {
  logger "$1"
  exit "$2"
}
warn() { echo "$1"; }
error() { echo "only said"; }
"""


def strict(folder: Path, text: str, head: str = HEAD) -> bool:
    """Whether a failure of the line with foo in it ends the script."""
    (folder / "qemu").write_text(f"{head}{text}\n")
    lines = f"{head}{text}".split("\n")
    number = next(at for at, line in enumerate(lines, 1) if "foo" in line)
    return GivingUp(sources.read([str(folder)])).is_strict(Place(f"{HOOKS}/qemu", number))


@pytest.mark.parametrize(
    "text",
    [
        "foo || exit 1", "foo || return 2", "foo || stop x", "foo || leave x 3", "foo || die x", "foo || exit $?",
        'foo || { echo "no"; exit 1; }', "foo || {\n  echo no\n  stop x\n}", "foo ||\n  exit 1",
        "if ! foo; then\n  echo no\n  exit 1\nfi", "if ! foo; then stop x; fi", "elif ! foo; then\n  exit 1\nfi",
        "foo\nif [ $? -ne 0 ]; then\n  exit 1\nfi", "foo\n# why\n[ $? -eq 0 ] || exit 1", "foo\n(( $? )) && stop x",
    ],
)  # fmt: skip
def test_a_step_that_must_not_fail(tmp_path: Path, text: str) -> None:
    """In each way that people write it."""
    assert strict(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "foo", "foo || true", "foo || warn x", "foo || error x", "foo || exit 0", "foo || { echo no; }",
        "foo || {\n  echo no\n}\nexit 1", "if ! foo; then\n  echo no\nfi\nexit 1", "if foo; then\n  exit 1\nfi",
        "if ! foo; then\n  echo no\nelse\n  exit 1\nfi", "foo\nbar\n[ $? -eq 0 ] || exit 1", "foo && exit 1",
    ],
)  # fmt: skip
def test_a_step_that_may_fail(tmp_path: Path, text: str) -> None:
    """Whatever comes after it."""
    assert not strict(tmp_path, text)


def test_set_e_is_for_all(tmp_path: Path) -> None:
    """Of one file."""
    assert strict(tmp_path, "foo", "#!/bin/bash -e\n")
    assert strict(tmp_path, "foo", "#!/bin/bash\nset -euo pipefail\n")


def test_what_only_gives_up_is_told_with_its_reason(tmp_path: Path) -> None:
    """Once that is told, these lines need no look."""
    (tmp_path / "qemu").write_text("#!/bin/bash\nfoo || {\n  echo no\n  exit 1\n}\nif [ -f /x ]; then\n  exit 1\nfi\n")
    found, step, check = GivingUp(sources.read([str(tmp_path)])), Place(f"{HOOKS}/qemu", 2), Place(f"{HOOKS}/qemu", 6)
    assert found.ends(frozenset({step, check}), frozenset()) == {step._replace(line=4)}
    assert found.ends(frozenset(), frozenset({check})) == {step._replace(line=7)}
