"""Whose fault an error is, and the exit code it ends a command with.

`CkError` is the user's to fix: one line, no traceback. `InternalError` is ours: a traceback and exit code 70.
`CkWarning` ends nothing: a command prints it once.
"""


class CkError(Exception):
    """A problem the user can fix. The message says what was required, what was found, and what to do."""

    exit_code = 1


class UsageError(CkError):
    """A flag, a value or a combination of them that no command can act on."""

    exit_code = 2


class MalformedError(CkError):
    """An input file that breaks its own format."""

    exit_code = 3


class UnsupportedError(CkError):
    """A well-formed input that asks for something ck cannot do."""

    exit_code = 4


class GateError(CkError):
    """A check that had to pass did not."""

    exit_code = 5


class MachineError(CkError):
    """The machine lacks something: a compiler, a library, a writable cache."""

    exit_code = 6


class NetworkError(CkError):
    """A download that could not be made or did not verify."""

    exit_code = 7


class ResourceError(CkError):
    """Memory, disk or context is used up."""

    exit_code = 8


class ConflictError(CkError):
    """Something that is already there, or another process at work, stands in the way."""

    exit_code = 9


class InternalError(Exception):
    """A defect in ck itself: the message helps us, not the user."""

    exit_code = 70


class CkWarning(UserWarning):
    """Worth knowing, and no error: one line that says what is done in place of what."""
