"""The spool: what is written outlives the process, within bounds, whatever the disk does."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bento import spool as module
from bento.spool import Spool, SpoolFullError

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import os, signal, sys, pathlib
from bento.spool import Spool
spool = Spool(pathlib.Path(sys.argv[1]), max_bytes=1000)
assert spool.write(b"left\\n", 1)
print("written", flush=True)
if sys.argv[2] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder, max_bytes=1000, memory_bytes=100)
    yield spool
    spool.close()


def take(spool: Spool) -> bytes:
    """Read and remove the oldest segment."""
    segment = spool.take()
    assert segment is not None
    lines = segment.read()
    spool.remove(segment)
    return lines


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*.jsonl"))


def another_process(folder: Path, fate: str) -> subprocess.Popen[str]:
    """A process that writes one line and dies, or lives until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, str(folder), fate],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def refuse(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC, after: int = 0) -> Callable[[], None]:
    """Make the disk take `after` more bytes and then refuse; the result makes it work again."""
    left, write = [after], os.write

    def full(fd: int, data: memoryview) -> int:
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        num_bytes = write(fd, data[: left[0]])
        left[0] -= num_bytes
        return num_bytes

    monkeypatch.setattr(os, "write", full)
    return lambda: monkeypatch.setattr(os, "write", write)


def test_lines_come_back_in_order_and_their_file_goes(spool: Spool, folder: Path) -> None:
    assert spool.take() is None
    assert spool.write(b"1\n2\n", 2)
    assert spool.write(b"3\n", 1)
    assert len(files(folder)) == 1
    segment = spool.take()
    assert spool.write(b"4\n", 1)
    assert segment is spool.take()
    assert segment is not None
    assert (segment.read(), segment.num_rows) == (b"1\n2\n3\n", 3)
    spool.remove(segment)
    assert take(spool) == b"4\n"
    assert not files(folder)
    assert spool.num_bytes() == 0


def test_a_long_file_is_followed_by_the_next(spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 4)
    for number in range(5):
        spool.write(b"%d\n" % number, 1)
    assert len(spool) == len(files(folder)) == 3
    assert [take(spool) for _ in range(3)] == [b"0\n1\n", b"2\n3\n", b"4\n"]


def test_nobody_else_can_read_the_texts(spool: Spool, folder: Path) -> None:
    spool.write(b"1\n", 1)
    (file,) = folder.glob("*/*.jsonl")
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_a_full_spool_refuses_and_keeps_what_it_has_until_there_is_room(spool: Spool) -> None:
    assert spool.write(b"x" * 899 + b"\n", 1)
    with pytest.raises(SpoolFullError, match="spool_full"):
        spool.write(b"y" * 100 + b"\n", 1)
    assert spool.num_bytes() == 900
    take(spool)
    assert spool.write(b"y" * 100 + b"\n", 1)


@pytest.mark.parametrize("before", [b"", b"before\n"])
def test_what_a_full_disk_refuses_waits_in_memory_and_no_half_line_stays(
    spool: Spool, folder: Path, before: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if before:
        spool.write(before, 1)
    works_again = refuse(monkeypatch, after=3)
    monkeypatch.setattr(module, "RETRY_DISK_S", 0.0)
    assert not spool.write(b"refused\n", 1)
    assert not spool.write(b"too\n", 1)
    assert len(files(folder)) == bool(before)
    assert "No space left" in caplog.text
    assert len(caplog.records) == 1
    with pytest.raises(SpoolFullError, match="disk_refuses"):
        spool.write(b"x" * 100, 1)
    works_again()
    assert spool.write(b"after\n", 1)
    assert "written again" in caplog.text
    assert b"".join(take(spool) for _ in range(len(spool))) == before + b"refused\ntoo\nafter\n"


def test_a_disk_that_refuses_is_not_asked_each_time(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    works_again = refuse(monkeypatch)
    assert not spool.write(b"1\n", 1)
    works_again()
    assert not spool.write(b"2\n", 1)


def test_a_folder_that_cannot_be_written_is_told_of_at_the_start(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file")
    spool = Spool(folder, max_bytes=1000)
    spool.adopt()
    assert f"{folder} cannot be written" in caplog.text
    assert "RETORT_HOME" in caplog.text
    assert not spool.write(b"1\n", 1)
    assert take(spool) == b"1\n"
    spool.write(b"2\n", 7)
    assert spool.close() == 7


def test_a_folder_that_somebody_deletes_is_made_again(spool: Spool, folder: Path) -> None:
    spool.write(b"1\n", 1)
    (file,) = folder.glob("*/*.jsonl")
    file.unlink()
    file.parent.rmdir()
    segment = spool.take()
    assert segment is not None
    with pytest.raises(FileNotFoundError):
        segment.read()
    spool.remove(segment)
    assert spool.write(b"2\n", 1)
    assert take(spool) == b"2\n"


def test_what_a_killed_process_left_is_taken_over_once(spool: Spool, folder: Path) -> None:
    another_process(folder, "dies").communicate()
    other = Spool(folder, max_bytes=1000)
    other.adopt()
    spool.adopt()
    assert (len(other), len(spool)) == (1, 0)
    segment = other.take()
    assert segment is not None
    assert segment.adopted
    assert take(other) == b"left\n"
    other.close()
    assert not list(folder.glob("*/*.jsonl"))


def test_what_a_living_process_has_is_left_alone(spool: Spool, folder: Path) -> None:
    process = another_process(folder, "lives")
    spool.adopt()
    assert spool.take() is None
    process.communicate()
    spool.adopt()
    assert take(spool) == b"left\n"


def test_what_is_left_at_the_end_is_for_the_next_start_and_an_empty_folder_goes(folder: Path) -> None:
    first, second = (Spool(folder, max_bytes=1000) for _ in range(2))
    first.write(b"1\n", 1)
    second.adopt()
    assert second.take() is None
    assert first.close() == 0
    second.adopt()
    assert take(second) == b"1\n"
    second.close()
    assert not list(folder.iterdir())


def test_lines_that_wait_are_forced_to_the_disk_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool.write(b"1\n", 1)
    spool.sync()
    assert not synced
    monkeypatch.setattr(module, "SYNC_AFTER_S", 0.0)
    spool.sync()
    spool.sync()
    assert len(synced) == 1
    spool.write(b"2\n", 1)
    spool.sync()
    assert len(synced) == 2
