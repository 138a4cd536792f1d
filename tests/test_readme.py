"""The README's commands work as they stand there, with the smoke build in the place of the longer ones."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.config import Config
from tests.terminal import SMOKE, Terminal, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
LINES = [re.split(r"\s+# ", line)[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
RETORT = [line.removeprefix(".venv/bin/retort ") for line in LINES if line.startswith(".venv/bin/retort ")]
LONG_RUNNING = ("serve", "deploy")


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", "\n".join(LINES), flags=re.MULTILINE)
    assert set(targets) == {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_every_file_that_is_named_exists() -> None:
    for path in re.findall(r"configs/\w+\.yaml|tasks/[a-z_/]+\.py|docs/[\w.]+", README):
        assert (ROOT / path).is_file(), path


def test_every_key_of_a_config_is_one() -> None:
    smoke = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL):
        given = yaml.safe_load(block)
        smoke |= {key: smoke.get(key, {}) | value for key, value in given.items()}
    assert Config.model_validate(smoke).behaviour.minimum_functionality[0].name == "lost card"


def test_every_long_running_command_has_these_options(tmp_path: Path) -> None:
    terminal = Terminal(home=tmp_path / "home")
    for line in RETORT:
        command, *rest = shlex.split(line)
        if command in LONG_RUNNING:
            usage = terminal.run(command, "--help").stdout
            assert all(word in usage for word in rest if word.startswith("--")), line


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in RETORT if line.split()[0] not in LONG_RUNNING])
def test_every_other_command_runs(line: str, terminal: Terminal, built: dict[str, Any], tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    labelled = "".join(f"sentence number {at} of {at % 2},{'ab'[at % 2]}\n" for at in range(200))
    (rows / "train.csv").write_text("text,label\n" + labelled, encoding="utf-8")
    words = shlex.split(line.replace("quickstart", "smoke").replace("FOLDER", str(rows)))
    if any("banking77" in word for word in words):  # the real one takes minutes and a data hub
        words = [
            "plan",
            str(ROOT / "configs" / "banking77.yaml"),
            "--set",
            f"data.source={rows}",
            "--set",
            "data.label=label",
        ]
    if words[0] == "gate":
        named = {"MODEL": built["model_path"], "DATA": str(terminal.home / "store" / built["data_sha256"])}
        words = [named.get(word, word) for word in words]
    words = [str(ROOT / word) if word.startswith("configs/") else word for word in words]
    words = [str(tmp_path / word) if word == "drifted" else word for word in words]
    done = terminal.run(*words)
    assert done.returncode == 0 or words[0] == "doctor", done.stderr[-2000:]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_python_code_sends_traffic_with_its_labels(
    terminal: Terminal, built: dict[str, Any], tmp_path: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    apart = replace(terminal, more=(*terminal.more, ("RETORT_DATABASE_URL", f"sqlite:///{tmp_path / 'apart.db'}")))
    first = apart.json("run", str(SMOKE))
    assert (first["outcome"], {stage["cached"] for stage in first["stages"]}) == ("promoted", {True})
    assert apart.run("synthesize", str(tmp_path / "drifted"), "--period", "1", "--rows", "100").returncode == 0
    with serving(apart, "smoke") as url:
        code = code.replace("http://127.0.0.1:3000", url)
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    look = apart.json("monitor", str(SMOKE))
    assert look["evidence"]["harm"]["num_labels"] >= 83, "the labels of a test split of five sixths of 100 rows"


@pytest.mark.slow
def test_every_curl_line_is_answered(service: str) -> None:
    lines = [shlex.split(line) for line in LINES if line.startswith("curl")]
    assert len(lines) == 2
    for words in lines:
        path = words[2].removeprefix("localhost:3000")
        assert httpx.post(f"{service}{path}", content=words[4]).status_code == 200, words
