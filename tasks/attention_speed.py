"""What one text of a given length costs in ONNX Runtime: milliseconds, several models in turns, and peak memory.

Both depend on a model's sizes and the number of tokens, not on its weights or on which tokens they are, so they can be
measured before any training.

`python -m tasks.attention_speed MODEL.onnx NUM_TOKENS` prints the bytes that one text needs, from a process that has
run nothing else.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bento.errors import RetortError, UserError
from bento.predictor import open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MIN_ROUNDS, MAX_ROUNDS = 3, 25
NUM_WARMUP_TOKENS = 16
PROC = Path("/proc/self")


def feeds(session: "InferenceSession", num_tokens: int) -> dict[str, NDArray[np.int64]]:
    """One text of `num_tokens` tokens; which ones does not matter."""
    names = {node.name for node in session.get_inputs()}
    shape = (1, num_tokens)
    made = {
        "input_ids": np.ones(shape, dtype=np.int64),
        "attention_mask": np.ones(shape, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    return {name: value for name, value in made.items() if name in names}


def median_ms(
    sessions: Mapping[str, "InferenceSession"], lengths: Sequence[int], *, budget_s: float
) -> dict[str, list[float]]:
    """Milliseconds of one text a length and session: medians of rounds in which the sessions take turns.

    A first round warms up; at least MIN_ROUNDS follow, and more while `budget_s` lasts.
    """
    start = time.perf_counter()
    rounds = [_round(sessions, lengths)]
    while len(rounds) <= MIN_ROUNDS or (
        len(rounds) <= MAX_ROUNDS and (time.perf_counter() - start) * (1 + 1 / len(rounds)) < budget_s
    ):
        rounds.append(_round(sessions, lengths))
    return {name: np.median([one[name] for one in rounds[1:]], axis=0).tolist() for name in sessions}


def _round(sessions: Mapping[str, "InferenceSession"], lengths: Sequence[int]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for num_tokens in lengths:
        for name, session in sessions.items():
            given = feeds(session, num_tokens)
            start = time.perf_counter()
            session.run(None, given)
            found[name].append((time.perf_counter() - start) * 1e3)
    return found


def peak_bytes(model: Path, num_tokens: int) -> int:
    """By how much the resident memory of a fresh process grows at most while `model` answers one text.

    A process of its own, since a runtime keeps what it allocated once. Raises: UserError, RetortError.
    """
    if not (PROC / "clear_refs").exists():
        raise UserError(f"peak memory: expected Linux's {PROC / 'clear_refs'}, got {sys.platform}; run it on Linux")
    command = [sys.executable, "-m", "tasks.attention_speed", str(model), str(num_tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RetortError(
            f"peak memory at {num_tokens} tokens: the process ended with {done.returncode}: {done.stderr}"
        )
    return int(done.stdout)


def _growth_bytes(model: Path, num_tokens: int) -> int:
    session = open_session(model, threads=1)
    session.run(None, feeds(session, NUM_WARMUP_TOKENS))
    (PROC / "clear_refs").write_text("5")  # the peak counts from here: man 5 proc
    before = _status_bytes("VmRSS")
    session.run(None, feeds(session, num_tokens))
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = (PROC / "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    sys.stdout.write(f"{_growth_bytes(Path(sys.argv[1]), int(sys.argv[2]))}\n")
