"""Where state lives and which servers are used: read from the environment when asked, never at import."""

import os
from pathlib import Path

from bento.errors import ConfigError

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # 20 is little on a machine that trains beside
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "retort",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "ORT_DISABLE_TELEMETRY": "1",
}


def home() -> Path:
    """The state folder, absolute: `RETORT_HOME`, or `.retort/` in the working directory."""
    return Path(os.environ.get("RETORT_HOME") or ".retort").expanduser().resolve()


def make_folder(folder: Path) -> None:
    """Make a folder that holds state, if need be. Raises: ConfigError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: expected a folder for state, new or not, got: {error.strerror}; set RETORT_HOME, or the path "
            "in RETORT_DATABASE_URL, to one that can be written"
        ) from error


def check_home() -> None:
    """Raises: ConfigError where a file is in the place of the state folder, which need not be there yet."""
    if home().is_file():
        raise ConfigError(f"RETORT_HOME: expected a folder, new or not, got the file {home()}; name another")


def store_folder() -> Path:
    """The local content-addressed store."""
    return home() / "store"


def database_url() -> str:
    """SQLAlchemy URL of the request log, audit queue, pointers and ledger (`RETORT_DATABASE_URL`)."""
    return os.environ.get("RETORT_DATABASE_URL") or f"sqlite:///{home() / 'retort.db'}"


def tracking_uri() -> str:
    """Absolute MLflow tracking URI (`MLFLOW_TRACKING_URI`)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def configure() -> None:
    """Point Prefect, MLflow and BentoML at the state folder and silence telemetry.

    Only fills in what the user has not set, and creates nothing. It has to run before those libraries are
    imported, because each reads its home once.
    """
    defaults = QUIET | {
        "PREFECT_HOME": str(home() / "prefect"),
        "BENTOML_HOME": str(home() / "bentoml"),
        "MLFLOW_TRACKING_URI": tracking_uri(),
    }
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
