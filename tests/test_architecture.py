"""The house's rules, read from the imports: what may import what, and what importing must not do."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tasks.release.package import RUNTIME_PACKAGES

ROOT = Path(__file__).parents[1]
PACKAGES = ("bento", "tasks", "flows")

FORBIDDEN = {
    "bento": {
        "tasks",
        "flows",
        "torch",
        "transformers",
        "mlflow",
        "prefect",
        "optimum",
        "datasets",
        "sklearn",
        "matplotlib",
    },
    "tasks": {"flows", "prefect"},
    "flows": set(),
}
"""Top-level packages that no module of a package may import, not even inside a function."""
ONLY_IN = {
    "mlflow": ("tasks/release/",),
    "matplotlib": ("tasks/report/",),
    "bentoml": ("tasks/release/", "bento/", "flows/bench_serve/peers/"),
}
"""The one place that may import a library; `bentoml` serves in bento, builds in the release, and is a peer."""
LAZY = ("flows", "flows.config", "flows.cli", "flows.doctor", "tasks.store", "bento.settings")
HEAVY = (
    "torch",
    "mlflow",
    "prefect",
    "transformers",
    "optimum",
    "datasets",
    "sklearn",
    "matplotlib",
    "pandas",
    "bentoml",
)


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement: where it stands and the whole dotted name."""

    file: str
    line: int
    name: str

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def read_imports(root: Path) -> Iterator[Import]:
    """Every import of the three packages below `root`, those inside functions too."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            file = path.relative_to(root).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    origin = _absolute(file, node)
                    names = [f"{origin}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Call) and _is_import_module(node):
                    names = [node.args[0].value]  # type: ignore[attr-defined]
                yield from (Import(file=file, line=node.lineno, name=name) for name in names)


def _absolute(file: str, node: ast.ImportFrom) -> str:
    """The dotted module that a relative import means."""
    if not node.level:
        return node.module or ""
    folder = file.split("/")[: -node.level]
    return ".".join([*folder, *([node.module] if node.module else [])])


def _is_import_module(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    constant = bool(node.args) and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    return name in ("import_module", "__import__") and constant


def violations(root: Path) -> list[str]:
    """Each import that breaks a rule, as `file:line: imports name`."""
    found = []
    for item in read_imports(root):
        package = item.file.partition("/")[0]
        places = ONLY_IN.get(item.top)
        if item.top in FORBIDDEN[package] or (places and not item.file.startswith(places)):
            found.append(f"{item.file}:{item.line}: imports {item.name}")
    return found


def test_imports_run_from_flows_to_tasks_to_bento_and_libraries_stay_where_they_belong():
    assert violations(ROOT) == []


def test_a_bento_installs_every_library_that_the_service_imports():
    # pynvml comes with a GPU's driver, onnxruntime brings the rest of what it needs
    optional = {"pynvml"}
    installed = packages_distributions()
    imported = {one.name.partition(".")[0] for one in read_imports(ROOT) if one.file.startswith("bento/")}
    libraries = imported - set(sys.stdlib_module_names) - {"bento"} - optional
    packages = {name: {one.lower().replace("_", "-") for one in installed[name]} for name in libraries}
    missing = {name for name, of in packages.items() if not of & {*RUNTIME_PACKAGES}}
    assert missing == set()


def test_every_package_was_read():
    assert {item.file.partition("/")[0] for item in read_imports(ROOT)} == set(PACKAGES)


@pytest.mark.parametrize(
    ("file", "line", "caught"),
    [
        ("bento/low.py", "from tasks.types import Split", "bento/low.py:1: imports tasks.types.Split"),
        ("tasks/middle.py", "import flows.config", "tasks/middle.py:1: imports flows.config"),
        ("bento/low.py", "def run():\n    import torch", "bento/low.py:2: imports torch"),
        ("bento/web/low.py", "from ...tasks import store", "bento/web/low.py:1: imports tasks.store"),
        (
            "tasks/monitor/look.py",
            "from mlflow import MlflowClient",
            "tasks/monitor/look.py:1: imports mlflow.MlflowClient",
        ),
        ("flows/build.py", "import bentoml", "flows/build.py:1: imports bentoml"),
        ("flows/show.py", "import matplotlib.pyplot", "flows/show.py:1: imports matplotlib.pyplot"),
        ("bento/low.py", "import importlib\nimportlib.import_module('mlflow')", "bento/low.py:2: imports mlflow"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, file: str, line: str, caught: str):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert violations(tmp_path) == [caught]


def test_what_is_allowed_is_not_caught(tmp_path: Path):
    allowed = {
        "tasks/release/track.py": "import mlflow",
        "tasks/report/draw.py": "from matplotlib.figure import Figure",
        "bento/service.py": "import bentoml",
        "flows/build.py": "from tasks import store\nimport prefect",
    }
    for file, line in allowed.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(line)
    assert violations(tmp_path) == []


def loaded_after(importing: str, libraries: tuple[str, ...], folder: Path) -> list[str]:
    """Which of `libraries` a new process has after `importing`, with `folder` as its home and working directory."""
    script = f"import sys, {importing}; print(*sorted(set({libraries!r}) & set(sys.modules)))"
    own = ("RETORT", "MLFLOW", "PREFECT", "BENTOML", "ORT_", "XDG_", "MPLCONFIGDIR")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", LAZY)
def test_importing_loads_no_heavy_library_and_creates_nothing(tmp_path: Path, module: str):
    assert loaded_after(module, HEAVY, tmp_path) == []
    assert list(tmp_path.rglob("*")) == []


def test_what_serves_loads_no_training_library(tmp_path: Path):
    serving = "bento.app, bento.predictor, bento.database"
    assert loaded_after(serving, ("torch", "transformers", "mlflow", "prefect", "optimum"), tmp_path) == []
    assert list(tmp_path.rglob("*")) == []


def test_the_probe_sees_a_loaded_library(tmp_path: Path):
    assert loaded_after("bento.settings, sqlite3", ("sqlite3",), tmp_path) == ["sqlite3"]
