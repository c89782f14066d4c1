"""The error tree of edge-fgr. Each leaf knows the exit code of the command line.

    EdgeFgrError                1   anything that has no better place below
    ├── UsageError              2   an argument that cannot be meant
    ├── DataError              65   labelled data that contradicts itself
    ├── ImageError             65   a file that was not read whole as one image
    ├── InputMissingError      66   a file or folder that is not there
    ├── UnavailableError       69   something this machine lacks
    │   ├── DeviceError        69     the device asked for is not active
    │   └── MissingExtraError  69     a command whose extra is not installed
    ├── OutputError            74   a result that could not be written
    ├── RankError              75   a process of a training on several that ended; it can go on
    ├── PermissionDeniedError  77   a file that may not be read
    ├── ModelError             78   a model file that cannot be used
    │   └── ContractError      78     a model without our contract, or with a wrong one
    └── GalleryError           78   enrolled classes that cannot be used with this model

The numbers follow BSD sysexits.h where it has a word for the case. Standard library only.
"""

from __future__ import annotations

__all__ = [
    "ContractError",
    "DataError",
    "DeviceError",
    "EdgeFgrError",
    "GalleryError",
    "ImageError",
    "InputMissingError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PermissionDeniedError",
    "RankError",
    "UnavailableError",
    "UsageError",
]


class EdgeFgrError(Exception):
    """Base of all errors that edge-fgr raises on purpose: one line with subject, cause, remedy.

    Attributes:
        exit_code: what the command line exits with.
        kind: a stable word for programs; part of the JSON record.
    """

    exit_code = 1
    kind = "error"


class UsageError(EdgeFgrError):
    """An argument that cannot be meant as given."""

    exit_code = 2
    kind = "usage"


class DataError(EdgeFgrError):
    """Labelled data that contradicts itself: leaks, conflicting labels, unreadable files."""

    exit_code = 65
    kind = "data"


class ImageError(EdgeFgrError):
    """A file that could not be read whole as one image.

    ``kind`` is one of ``empty``, ``not_an_image``, ``truncated``, ``too_large``,
    ``unsupported`` and ``damaged``.
    """

    exit_code = 65

    def __init__(self, message: str, *, kind: str = "damaged") -> None:
        super().__init__(message)
        self.kind = kind


class InputMissingError(EdgeFgrError):
    """A file or folder that is not there, or a folder where a file is expected."""

    exit_code = 66
    kind = "missing"


class UnavailableError(EdgeFgrError):
    """Something that this machine or installation lacks."""

    exit_code = 69
    kind = "unavailable"


class DeviceError(UnavailableError):
    """The device asked for is not active. Never answered by a silent fallback."""

    kind = "device"


class MissingExtraError(UnavailableError):
    """A command whose optional packages are not installed; the message says which install helps."""

    kind = "missing_extra"


class OutputError(EdgeFgrError):
    """A result that could not be written."""

    exit_code = 74
    kind = "output"


class RankError(EdgeFgrError):
    """A process of a training on several is gone; the same command goes on with the training."""

    exit_code = 75
    kind = "rank"


class PermissionDeniedError(EdgeFgrError):
    """A file that exists but may not be read."""

    exit_code = 77
    kind = "permission"


class ModelError(EdgeFgrError):
    """A model file that cannot be used."""

    exit_code = 78
    kind = "model"


class ContractError(ModelError):
    """A model without our contract, or with one that breaks a rule of it."""

    kind = "contract"


class GalleryError(EdgeFgrError):
    """A gallery that is damaged, or that was made with another model."""

    exit_code = 78
    kind = "gallery"
