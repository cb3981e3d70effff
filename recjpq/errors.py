"""Every error that `recjpq` raises on purpose.

RecJPQError
├── ScoringError (also ValueError)      a call to a scorer that cannot be answered
├── BackendUnavailableError             a scoring back-end that this machine does not have
├── NewItemError (also ValueError)      new items that cannot be given codes
├── FilterError                         a condition that no item's attributes can meet
├── CatalogueError                      an items file that cannot be a catalogue
└── ArtifactError                       an artifact that must not be loaded, one class per reason
    ├── ArtifactNotFoundError           no such directory
    ├── ArtifactIncompleteError         no manifest: never finished, or not an artifact
    ├── ArtifactManifestError           a manifest that is not valid
    ├── ArtifactSchemaError             a schema version that this release does not read
    ├── ArtifactFileMissingError        a file that the manifest lists is not there
    ├── ArtifactSizeError               a file is shorter or longer than it was when written
    ├── ArtifactChecksumError           a file's bytes changed
    ├── ArtifactShapeError              an array or graph does not have the manifest's shape
    ├── ArtifactDtypeError              an array or graph input does not have the required type
    ├── ArtifactCodeRangeError          a sub-id is not below V
    ├── ArtifactGoldenError             the golden histories do not give the recorded answers
    └── ArtifactExistsError             writing over a version, which is immutable

Messages say what was found, what was expected and what to do.
"""


class RecJPQError(Exception):
    """Root of the package's errors."""


class ScoringError(RecJPQError, ValueError):
    """A call to a scorer that cannot be answered: shape, dtype, NaN, k or an item index is wrong."""


class BackendUnavailableError(RecJPQError):
    """The scoring back-end that was asked for cannot run on this machine."""


class NewItemError(RecJPQError, ValueError):
    """New items that cannot be given codes: what should decide them is missing or does not fit."""


class CatalogueError(RecJPQError):
    """An items file that cannot be a catalogue."""


class ArtifactError(RecJPQError):
    """An artifact that must not be loaded or written."""


class ArtifactNotFoundError(ArtifactError):
    """There is no directory at the path."""


class ArtifactIncompleteError(ArtifactError):
    """The directory has no manifest."""


class ArtifactManifestError(ArtifactError):
    """The manifest is not valid JSON or a field is missing or wrong."""


class ArtifactSchemaError(ArtifactError):
    """The schema version is not one that this release reads."""


class ArtifactFileMissingError(ArtifactError):
    """A file that the manifest lists is not there."""


class ArtifactSizeError(ArtifactError):
    """A file does not have the number of bytes that was recorded."""


class ArtifactChecksumError(ArtifactError):
    """A file's SHA-256 is not the one that was recorded."""


class ArtifactShapeError(ArtifactError):
    """An array or a graph does not have the shape that the manifest states."""


class ArtifactDtypeError(ArtifactError):
    """An array or a graph does not have the type that the schema requires."""


class ArtifactCodeRangeError(ArtifactError):
    """A sub-id in the codes is not below V."""


class ArtifactGoldenError(ArtifactError):
    """Replaying the golden histories does not give the recorded answers."""


class ArtifactExistsError(ArtifactError):
    """A version already exists where one was to be written; versions are immutable."""


class FilterError(RecJPQError):
    """A condition names an attribute that the catalogue does not have, or a value that it cannot have.

    Attributes:
        attribute: which. detail: what is wrong with it.
    """

    def __init__(self, attribute: str, detail: str) -> None:
        super().__init__(f"{attribute}: {detail}")
        self.attribute, self.detail = attribute, detail
