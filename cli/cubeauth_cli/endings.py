"""How a command ends.

What a person or a server did wrong is one line on standard error and status
1. A bug is one line too, naming a file (0600) with the traceback; with
CUBEAUTH_TRACEBACK=1 it goes to the terminal instead. Interrupted is 130, as
shells say it.
"""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cubeauth.errors import CubeauthError, LocalMisuse
from cubeauth_cli import console

FAILED = 1
ENDED_BY_SIGNAL = 128
"""And the signal's number."""
INTERRUPTED = ENDED_BY_SIGNAL + signal.SIGINT

TRACEBACK_VARIABLE = "CUBEAUTH_TRACEBACK"


class UsageError(CubeauthError):
    """The command line is wrong; the text says what to write."""


class MissingExtra(CubeauthError):
    """A command needs a package that this installation lacks."""


def missing_module(error: ModuleNotFoundError, extra: str) -> Exception:
    """What a failed import means: an extra that is not installed, or, for a module of ours, a bug."""
    if error.name is None or error.name.partition(".")[0].startswith("cubeauth"):
        return error
    return MissingExtra(f"this command needs {error.name}, which is not installed: pip install 'cubeauth[{extra}]'")


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Around imports of what only `extra` brings. Raises MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as e:
        raise missing_module(e, extra) from None


def contain(work: Callable[[], int]) -> int:
    """The exit status of `work`; whatever it raises is told in one line."""
    try:
        status = work()
        console.flush()
    except LocalMisuse as e:
        status = _bug(e)
    except CubeauthError as e:
        status = _failed(str(e))
    except KeyboardInterrupt:
        console.note("cubeauth: interrupted")
        status = INTERRUPTED
    except BrokenPipeError:
        status = FAILED  # who read our output has gone; there is nobody to tell
    except OSError as e:
        status = _failed(f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e))
    except Exception as e:  # noqa: BLE001  the last frame before a user would see a traceback
        status = _bug(e)
    console.settle()
    return status


def _failed(text: str) -> int:
    console.error(text)
    return FAILED


def _bug(error: Exception) -> int:
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        traceback.print_exception(error)
        where = ""
    else:
        where = f", see {_crash_file(error)}"
    return _failed(f"internal error ({type(error).__name__}){where}; please report it")


def _crash_file(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        fd, name = tempfile.mkstemp(prefix="cubeauth-crash-", suffix=".txt")  # 0600
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text)
    except OSError:
        return f"nothing (no file could be written; {TRACEBACK_VARIABLE}=1 shows it)"
    return name
