# SPDX-License-Identifier: LGPL-2.1-or-later
"""`libhook watch` as the service manager runs it: started, waited for until it says it is ready, and stopped."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from host import PATIENCE, wait_for


class Watch:
    """One watch; it ends with its `with`."""

    def __enter__(self) -> Self:
        """Start it, and come back when it watches."""
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._errors = Path(self._folder.name) / "errors"
        self.told: list[str] = []
        # Always listening, as the service manager does: who tells it something waits once ten are unread.
        threading.Thread(target=self._listen, daemon=True).start()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                ["libhook", "watch"],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env={**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"},
            )
        self.wait_until_told("STATUS=watching")
        return self

    def wait_until_told(self, text: str) -> None:
        """Until it has told the service manager this, since it was last asked."""
        wait_for(f"watch to say {text}", lambda: any(text in told for told in self.told))
        self.told.clear()

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while told := self._socket.recv(4096).decode():
                self.told.append(told)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask it to stop, as the service manager does."""
        killed = self._process.returncode == -signal.SIGKILL
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError("watch did not stop when it was told to") from error
        said = self._errors.read_text()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._folder.cleanup()
        assert (code, said) == (-signal.SIGKILL if killed else 0, ""), f"watch ended with {code}: {said}"

    def kill(self) -> None:
        """SIGKILL instead; nothing of it may be needed afterwards."""
        self._process.kill()
        self._process.wait(PATIENCE)
