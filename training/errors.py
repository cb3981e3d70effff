"""Every error that `training` raises on purpose; the command line prints the message and exits with 2.

TrainingError
├── ConfigError         a configuration file or override that is wrong
├── DataError           an interaction log, metadata file or download that cannot be used
├── StageError          a stage whose input has not been made, or was made from something else
├── CheckpointError     a checkpoint that cannot be resumed
├── DivergedError       the loss is no longer a number
├── ProcessError        another process of the same training has stopped
├── TrackingError       an experiment tracker that cannot be reached
└── ExportError         a model that must not be exported
"""


class TrainingError(Exception):
    """Root of the package's errors."""


class ConfigError(TrainingError):
    """A configuration file or override that is wrong."""


class DataError(TrainingError):
    """An interaction log, metadata file or download that cannot be used."""


class StageError(TrainingError):
    """A stage whose input has not been made, or was made from something else."""


class CheckpointError(TrainingError):
    """A checkpoint that cannot be resumed."""


class DivergedError(TrainingError):
    """The loss is no longer a number."""


class ExportError(TrainingError):
    """A model that must not be exported."""


class ProcessError(TrainingError):
    """Another process of the same training has stopped."""


class TrackingError(TrainingError):
    """An experiment tracker that cannot be reached."""
