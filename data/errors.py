"""The errors that a user may see.

    GroundTuneError      exit status 1: the job failed
    ├── InputError       a workbook, model folder or file that cannot be used
    ├── ServiceError     a server that this one needs does not answer
    └── UsageError       exit status 2: the command line or the configuration is wrong

Each says what failed, with which value, and what to do. Anything else that escapes is a defect of ours
and keeps its traceback.
"""

from __future__ import annotations


class GroundTuneError(Exception):
    """A failure that the user can act on; `str(error)` is one readable line."""

    exit_status = 1


class InputError(GroundTuneError):
    """A file that was given cannot be used; the message names the cell, file or field and the fix."""


class ServiceError(GroundTuneError):
    """A server that this one needs does not answer, or not as it should; `code` names which for programs."""

    code = "service_unavailable"


class UsageError(GroundTuneError):
    """The command line or the configuration is wrong; nothing has been started."""

    exit_status = 2
