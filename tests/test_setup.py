"""Set-up: `make` with a python3.11 of straw, which writes down what it is asked, so that no test installs anything."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "make", "cat", "cut", "sha256sum", "flock", "rm", "touch", "mkdir", "cp", "chmod")

STRAW_PYTHON = r"""#!/bin/bash
case "$*" in
  --version) echo "Python 3.11.9" ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "venv $3" >> "$STRAW_LOG" ;;
  "-m pip --version") ;;
  "-m pip "*) echo "pip $*" >> "$STRAW_LOG"; case "$*" in *"$STRAW_FAILS"*) exit 1 ;; esac ;;
  *ensurepip*) exit "${STRAW_VENV:-0}" ;;
esac
"""


class Checkout:
    """A copy of what `make setup` reads, and a PATH that holds little else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.bin = folder / "checkout", folder / "log", folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder)
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (self.bin / tool).symlink_to(found)

    def add_python(self, name: str, text: str = STRAW_PYTHON) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def setup(self, *, fails: str = "no step", venv: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {"STRAW_LOG": str(self.log), "STRAW_FAILS": fails, "STRAW_VENV": str(venv)}
        return subprocess.run(
            [str(self.bin / "make"), "setup"],
            cwd=self.folder,
            env=environment | {"PATH": str(self.bin), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    return Checkout(tmp_path)


def test_the_first_call_installs_the_lock_then_retort_then_checks(checkout: Checkout):
    checkout.add_python("python3.11")
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    kinds = ["venv", "-r requirements.lock", "--no-deps --no-build-isolation -e .", "check"]
    assert len(checkout.asked) == len(kinds)
    assert all(kind in line for kind, line in zip(kinds, checkout.asked, strict=True))


def test_the_second_call_does_nothing(checkout: Checkout):
    checkout.add_python("python3.11")
    checkout.setup()
    before = checkout.asked
    done = checkout.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.asked == before


def test_a_changed_lock_installs_again_into_the_same_environment(checkout: Checkout):
    checkout.add_python("python3.11")
    checkout.setup()
    with (checkout.folder / "requirements.lock").open("a") as lock:
        lock.write("one-more==1.0\n")
    before = len(checkout.asked)
    assert checkout.setup().returncode == 0
    assert [line.split()[0] for line in checkout.asked[before:]] == ["pip", "pip", "pip"]


def test_an_install_that_failed_is_begun_afresh_by_the_next_call(checkout: Checkout):
    checkout.add_python("python3.11")
    assert checkout.setup(fails="-r requirements.lock").returncode != 0
    (checkout.folder / ".venv" / "half a package").touch()
    assert checkout.setup().returncode == 0
    assert not (checkout.folder / ".venv" / "half a package").exists()
    assert [line.split()[0] for line in checkout.asked] == ["venv", "pip", "venv", "pip", "pip", "pip"]


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout):
    checkout.add_python("python3.11")
    checkout.setup()
    moved = checkout.folder.with_name("moved")
    checkout.folder.rename(moved)
    checkout.folder = moved
    assert checkout.setup().returncode == 0
    assert sum(line.startswith("venv") for line in checkout.asked) == 2


def test_python3_serves_where_it_is_the_right_version(checkout: Checkout):
    checkout.add_python("python3")
    assert checkout.setup().returncode == 0


def test_without_the_right_python_it_says_how_to_get_it(checkout: Checkout):
    checkout.add_python("python3", "#!/bin/bash\n[ \"$1\" = --version ] && echo 'Python 3.13.2' && exit 0\nexit 1\n")
    done = checkout.setup()
    assert done.returncode != 0
    assert "needs Python 3.11; found Python 3.13.2" in done.stderr
    assert "apt-get install" in done.stderr
    assert not (checkout.folder / ".venv").exists()


def test_without_the_venv_module_it_names_the_package(checkout: Checkout):
    checkout.add_python("python3.11")
    done = checkout.setup(venv=1)
    assert done.returncode != 0
    assert "python3-venv" in done.stderr
    assert not (checkout.folder / ".venv").exists()


def test_the_lock_satisfies_every_requirement_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    locked = {canonicalize_name(name): version for name, version in pins}
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in requirements.lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


@pytest.mark.parametrize("name", ["Makefile", "requirements.lock", "pyproject.toml", ".ci/run"])
def test_no_registry_is_named(name: str):
    assert not re.search(r"https?://|index-url|find-links|@ git", (ROOT / name).read_text())


def test_ci_runs_make_test_and_can_be_executed():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
