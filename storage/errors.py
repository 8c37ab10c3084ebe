"""What can go wrong below the pipeline.

    StorageError            anything here; the cause is chained
    |- MissingError         a file, bucket or column that must be there is not
    |- CorruptError         it is there, and is not what its name or its receipt says
    |- ConflictError        the folder holds the results of another config
    |- HeldError            another run is writing to the folder
    |- RefusedError         the system will not write: rights, space, read-only
    |- UnavailableError     a store did not answer, for as long as we were ready to wait
    `- BadUriError          a URI or a path that no store can have

A wrong argument (an array of the wrong shape, a config that is not JSON) is a ``ValueError``. Failures of the network
or of the credentials of a remote store keep the type that its client gave them, unless that is an ``OSError`` or would
have passed by itself.
"""


class StorageError(Exception):
    """A store could not do what it was asked; base of every error of this package."""


class MissingError(StorageError):
    """A file, a bucket or a column that must be there is not."""


class CorruptError(StorageError):
    """A file is there but cannot be read as what it must be: cut, damaged, or of another kind."""


class ConflictError(StorageError):
    """A manifest of another config is there: going on would mix two runs in one folder."""


class HeldError(StorageError):
    """Another run is writing to the folder: two at once would do the work twice, or mix."""


class RefusedError(StorageError):
    """The system will not let us write: no rights, no space, a read-only place. Nothing else can be written there."""


class UnavailableError(StorageError):
    """A store did not answer, or answered that it cannot now, for as long as we were ready to wait."""


class BadUriError(StorageError):
    """A URI with an unknown protocol or without a bucket, or a path that is not relative and inside its store."""
