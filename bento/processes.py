"""Several processes of one service behind one port, `RETORT_PROCESSES`, each with an event loop of its own.

Python runs one thread at a time, so one process uses no more than 1.4 cores, and refusing what is too much keeps it
from answering the rest. The kernel wakes all for a new connection, and one that is idle takes it. Whichever process is
asked for /metrics has the others' too, told apart by the label `process`, since a counter that starts again with its
process would else look as if all had.
"""

import contextlib
import logging
import os
import re
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bento.errors import UserError

logger = logging.getLogger("bento.processes")

VARIABLE = "RETORT_PROCESSES"
MAX_PROCESSES = 64
TOKEN_VARIABLE = "RETORT_SERVICE_TOKEN"  # noqa: S105 - it names a folder
"""Set by the supervising process for those that it starts: with its number it names the folder in which they find each
other, which nobody else can have made before."""
LABEL = "process"
"""Of all series, by which the processes are told apart."""
TIMEOUT_S = 1.0
"""How long one of the others may take for its metrics."""
SAMPLE = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{?)")


def num_processes() -> int:
    """How many processes serve. Raises: UserError for what is no such number."""
    given = os.environ.get(VARIABLE) or "1"
    if not given.isdecimal() or not 1 <= int(given) <= MAX_PROCESSES:
        raise UserError(f"{VARIABLE}: expected a whole number from 1 to {MAX_PROCESSES}, got {given!r}")
    return int(given)


def share_token() -> None:
    """Called in the supervising process: what it starts finds the same folder, and no one else does."""
    os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex(8))


class Siblings:
    """The processes of this service, each of which tells the others what it counts; over sockets in a folder of /tmp
    that only this user can enter."""

    def __init__(self, index: int, folder: Path | None = None) -> None:
        """`index` tells this process from the others, in `folder`, by default that of the supervisor's children."""
        self.index = index
        self.folder = folder or Path(tempfile.gettempdir()) / f"retort-{os.environ[TOKEN_VARIABLE]}-{os.getppid()}"
        self._socket: socket.socket | None = None

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.index}.sock"

    def start(self, exposition: Callable[[], bytes]) -> None:
        """Answer the others with `exposition()` from now on, in a thread."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._path.unlink(missing_ok=True)  # of a process that was killed
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._path))
        self._socket.listen()
        threading.Thread(
            target=self._answer, args=(self._socket, exposition), name="retort-siblings", daemon=True
        ).start()  # fmt: skip

    def stop(self) -> None:
        """Be gone; the last one takes the folder along."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nobody is connected
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the others are still there
                self.folder.rmdir()

    def exposition(self, own: bytes) -> bytes:
        """The metrics of all processes, of which this one has counted `own`."""
        others = {path.stem: path for path in self.folder.glob("*.sock") if path != self._path}
        with ThreadPoolExecutor(MAX_PROCESSES) as threads:  # several that hang take no longer than one
            found = dict(zip(others, threads.map(_ask, others.values()), strict=True))
        return merged({name: text for name, text in found.items() if text} | {str(self.index): own})

    def _answer(self, listening: socket.socket, exposition: Callable[[], bytes]) -> None:
        while True:
            try:
                asking, _ = listening.accept()
            except OSError:  # closed
                return
            with asking, contextlib.suppress(OSError):  # whoever asked has gone
                asking.settimeout(TIMEOUT_S)
                asking.sendall(exposition())


def _ask(path: Path) -> bytes:
    """What a process has counted; nothing where it has gone or does not answer."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(TIMEOUT_S)
        parts = []
        try:
            asked.connect(str(path))
            while part := asked.recv(1 << 16):
                parts.append(part)
        except OSError as error:
            logger.warning("process %s does not say what it counted: %r", path.stem, error)
            return b""
    return b"".join(parts)


def merged(texts: Mapping[str, bytes]) -> bytes:
    """Expositions by process as one, in which each family is described once and its series have the process' label."""
    heads: dict[bytes, list[bytes]] = {}
    samples: dict[bytes, list[bytes]] = {}
    for process, text in sorted(texts.items()):
        family = b""
        for line in text.splitlines():
            if line.startswith(b"#"):
                _, kind, family, *_ = line.split(b" ", 3)
                head = heads.setdefault(family, [])
                if not any(known.startswith(b"# " + kind) for known in head):
                    head.append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, process.encode()))
    return b"".join(b"%b\n" % line for name, head in heads.items() for line in (*head, *samples.get(name, ())))


def _labelled(line: bytes, process: bytes) -> bytes:
    """A sample with one more label."""
    found = SAMPLE.match(line)
    if found is None:
        raise ValueError(f"expected a sample of Prometheus' text format, got {line[:100]!r}")
    rest = line[found.end() :]
    label = b'%b="%b"' % (LABEL.encode(), process)
    return found[1] + (b"{%b,%b" % (label, rest) if found[2] else b"{%b}%b" % (label, rest))
