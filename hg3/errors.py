"""What hg3 says when it is given something it cannot use.

Each message is one sentence or two: what was given, what was wanted, what to do. No message ever holds a
value of a patient: it names the column, the count and the row positions.
"""


class Hg3Error(Exception):
    """Base of every error that a user can cause and mend; the command line turns it into exit status 2."""


class ConfigError(Hg3Error, ValueError):
    """A preset, an option or an argument is not usable."""


class SchemaError(Hg3Error, ValueError):
    """A schema contradicts itself or names something unknown."""


class TableError(Hg3Error, ValueError):
    """A table does not fit its schema."""


class RunError(Hg3Error, RuntimeError):
    """A run folder or a checkpoint is missing, altered, in use, or made for something else."""


class TrainingError(Hg3Error, RuntimeError):
    """Training cannot go on."""


class ReleaseError(Hg3Error, RuntimeError):
    """A release is incomplete, altered, or refused."""


class ClusterError(Hg3Error, RuntimeError):
    """The cluster refused a job or does not answer, or a submission cannot be made."""


class ExtensionError(Hg3Error, ImportError):
    """The compiled extension is there and cannot be loaded."""


class MissingLibraryError(Hg3Error, ImportError):
    """A library that only an extra of hg3 brings is not installed."""
