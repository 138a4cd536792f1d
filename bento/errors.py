"""The exceptions a user can meet, in one tree:

RetortError
├── UserError           bad input or config: the command exits 2
│   ├── ConfigError     the YAML or a --set override
│   └── DataError       the labelled text set
├── IntegrityError      a file is not what its digest says: never used
├── ReleaseError        a promotion, boot check or package went wrong
└── TrackingError       the tracking server does not take a run
"""


class RetortError(Exception):
    """Base of every error that Retort raises on purpose; its text says what to do."""


class UserError(RetortError, ValueError):
    """What the user gave cannot be used: expected, got and remedy are in the text."""


class ConfigError(UserError):
    """The config is wrong; the text names the key, file and line."""


class DataError(UserError):
    """The data cannot be used; the text counts the rows at fault and shows examples."""


class IntegrityError(RetortError):
    """A stored file differs from its recorded digest, so it is refused."""


class ReleaseError(RetortError):
    """Packaging, boot check or promotion failed; no alias has moved."""


class TrackingError(RetortError):
    """MLflow could not be written to; what was to be logged is where it came from."""
