"""The request log on its way to the database: lines in files that outlive the process.

A process has a folder of its own under `spool/` and holds a lock on it (`flock`, which the kernel gives back however
the process ends), so that another can tell a dead one's folder and take its files over. A file is appended to until
the loader takes it, read once, and deleted. Where the disk refuses, lines wait in memory, within a bound.
"""

import fcntl
import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 << 20
"""A file that has reached this size is not appended to any more."""
MEMORY_BYTES = 32 << 20
"""Most that waits in memory while the disk refuses."""
RETRY_DISK_S = 1.0
SYNC_AFTER_S = 1.0
"""Lines that are not in the database by then are forced to the disk, for a power cut."""


class SpoolFullError(Exception):
    """The lines do not fit; the text is the reason by which the metrics count them."""


class Segment:
    """Lines in one file, or in memory where there is no path."""

    def __init__(self, path: Path | None, *, adopted: bool = False) -> None:
        """`adopted`: another process wrote it, and may have stored some of it. Raises: OSError."""
        self.path = path
        self.adopted = adopted
        self.num_bytes = path.stat().st_size if path and adopted else 0
        self.num_rows = 0
        """Lines that this process added."""
        self.num_loaded = 0
        """Lines that are in the database."""
        self.unsynced_since: float | None = None
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path and not adopted else -1
        self._memory = bytearray()

    def append(self, lines: bytes, num_rows: int) -> None:
        """Add all or nothing. Raises: OSError."""
        if self.path is None:
            self._memory += lines
        else:
            self._write(memoryview(lines))
        self.num_bytes += len(lines)
        self.num_rows += num_rows

    def _write(self, left: memoryview) -> None:
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            with suppress(OSError):  # the loader passes over half a line
                os.ftruncate(self._fd, self.num_bytes)
            raise
        self.unsynced_since = self.unsynced_since or time.monotonic()

    def seal(self) -> None:
        """Nothing is added any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def sync(self) -> None:
        """Force the file to the disk. Raises: OSError."""
        self.unsynced_since = None
        fd = os.open(str(self.path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self) -> bytes:
        """All lines. Raises: OSError."""
        return bytes(self._memory) if self.path is None else self.path.read_bytes()

    def delete(self) -> None:
        """Close and remove it. Raises: OSError."""
        self.seal()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Spool:
    """The segments of this process, oldest first; one thread writes while another takes and removes."""

    def __init__(self, folder: Path, *, max_bytes: int, memory_bytes: int = MEMORY_BYTES) -> None:
        """`folder` is shared by all processes of a state folder; `max_bytes` is this one's share of the disk."""
        self.folder = folder
        self.max_bytes = max_bytes
        self.memory_bytes = memory_bytes
        self._own: Path | None = None
        self._lock_fd = -1
        self._num_segments = 0
        self._segments: deque[Segment] = deque()
        self._open: Segment | None = None
        """The one that is appended to, the newest of those that this process wrote."""
        self._no_disk_before = 0.0
        """By the monotonic clock; 0 while the disk takes what it is given."""
        self._changed = threading.Lock()

    def __len__(self) -> int:
        """Number of segments."""
        return len(self._segments)

    def num_bytes(self) -> int:
        """Bytes that wait on the disk."""
        with self._changed:
            return self._num_bytes(on_disk=True)

    def _num_bytes(self, *, on_disk: bool) -> int:
        return sum(segment.num_bytes for segment in self._segments if (segment.path is not None) == on_disk)

    def write(self, lines: bytes, num_rows: int) -> bool:
        """Add whole lines to the disk, or to memory where it refuses; whether the disk has them.

        Raises: SpoolFullError, and nothing is kept.
        """
        with self._changed:
            if self._no_disk_before <= time.monotonic():
                if self._num_bytes(on_disk=True) + len(lines) > self.max_bytes:
                    raise SpoolFullError("spool_full")
                try:
                    self._append(lines, num_rows, on_disk=True)
                except OSError as error:
                    self._disk_refuses(error)
                else:
                    self._disk_works()
                    return True
            if self._num_bytes(on_disk=False) + len(lines) > self.memory_bytes:
                raise SpoolFullError("disk_refuses")
            self._append(lines, num_rows, on_disk=False)
            return False

    def _append(self, lines: bytes, num_rows: int, *, on_disk: bool) -> None:
        newest = self._open
        if newest is not None and (newest.path is not None) == on_disk and newest.num_bytes < SEGMENT_BYTES:
            newest.append(lines, num_rows)
            return
        self._seal()
        segment = Segment(self._next_path() if on_disk else None)
        try:
            segment.append(lines, num_rows)
        except OSError:
            segment.delete()
            raise
        self._segments.append(segment)
        self._open = segment

    def _seal(self) -> None:
        if self._open is not None:
            self._open.seal()
            self._open = None

    def _next_path(self) -> Path:
        self._num_segments += 1
        return self._own_folder() / f"{self._num_segments:08}.jsonl"

    def _own_folder(self) -> Path:
        """This process's folder, locked before it can be seen. Raises: OSError."""
        if self._own is None or not self._own.is_dir():
            name = f"{os.getpid()}-{uuid4().hex[:8]}"
            hidden = self.folder / f".{name}"
            hidden.mkdir(mode=0o700, parents=True)
            self._release()
            self._lock_fd = os.open(hidden, os.O_RDONLY)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._own = hidden.rename(self.folder / name)
        return self._own

    def _release(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _disk_refuses(self, error: OSError) -> None:
        if not self._no_disk_before:
            logger.error(
                "the request log's spool %s cannot be written (%s): answered requests wait in memory, where a kill "
                "loses them and %d MiB are the limit; make it writable, free space, or set RETORT_HOME",
                self.folder, error, self.memory_bytes >> 20,
            )  # fmt: skip
        self._no_disk_before = time.monotonic() + RETRY_DISK_S

    def _disk_works(self) -> None:
        if self._no_disk_before:
            logger.warning("the request log's spool %s is written again", self.folder)
        self._no_disk_before = 0.0

    def sync(self) -> None:
        """Force to the disk what has waited for a second, which it does when the database is away. Raises: OSError."""
        with self._changed:
            before = time.monotonic() - SYNC_AFTER_S
            for segment in self._segments:
                if segment.unsynced_since is not None and segment.unsynced_since <= before:
                    segment.sync()

    def take(self) -> Segment | None:
        """The oldest segment, to which nothing is added any more; the same one until it is removed."""
        with self._changed:
            if not self._segments:
                return None
            if self._segments[0] is self._open:
                self._seal()
            return self._segments[0]

    def remove(self, segment: Segment) -> None:
        """Delete a segment whose lines are all in the database. Raises: OSError."""
        with self._changed:
            self._segments.remove(segment)
            segment.delete()

    def adopt(self) -> None:
        """Take over what dead processes left, and find out whether the disk can be written. Raises: OSError."""
        with self._changed:
            try:
                own = self._own_folder()
            except OSError as error:
                self._disk_refuses(error)
                return
            for folder in sorted(self.folder.glob("[0-9]*-*")):
                if folder != own:
                    self._adopt(folder)

    def _adopt(self, folder: Path) -> None:
        try:
            lock_fd = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return  # another process was faster
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in sorted(folder.glob("*.jsonl")):
                self._segments.append(Segment(path.rename(self._next_path()), adopted=True))
            folder.rmdir()
        except (BlockingIOError, FileNotFoundError):
            return  # its process lives, or another was faster
        finally:
            os.close(lock_fd)
        logger.warning("took over the request log of a process that ended early: %s", folder.name)

    def close(self) -> int:
        """Leave what is on the disk to the next start; the number of rows in memory, which are lost."""
        with self._changed:
            self._seal()
            if self._own is not None:
                with suppress(OSError):  # not empty
                    self._own.rmdir()
            self._release()
            return sum(segment.num_rows for segment in self._segments if segment.path is None)
