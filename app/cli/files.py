"""The files that commands read and write, with sentences for what goes wrong."""

import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from app.cli.download import download
from app.cli.terminal import Refusal
from app.sources.reading import MAX_FILE


def read_all(name: str) -> bytes:
    """Return what a file, a URL or, as ``-``, standard input has; raise `Refusal` if it cannot."""
    if name.startswith(("http://", "https://")):
        return download(name)
    if name == "-":
        body = sys.stdin.buffer.read(MAX_FILE + 1)
    else:
        with access(Path(name), "read"):
            if not Path(name).exists():
                raise Refusal(
                    f"{name} cannot be read: No such file or directory. A URL begins with http:// "
                    "or https://."
                )
            with Path(name).open("rb") as file:
                body = file.read(MAX_FILE + 1)
    if len(body) > MAX_FILE:
        raise Refusal(f"{name} is longer than {MAX_FILE >> 20} MiB, and no file may be longer.")
    return body


@contextmanager
def access(file: Path, done: str) -> Iterator[None]:
    """Raise an `OSError` about `file` as a sentence; `done` is ``read`` or ``written``."""
    try:
        yield
    except FileExistsError as error:
        raise click.ClickException(f"{file} exists already; it is left as it is.") from error
    except PermissionError as error:
        user = str(os.geteuid())
        with suppress(KeyError):  # a container may run under a number without a name
            user = pwd.getpwuid(os.geteuid()).pw_name
        raise click.ClickException(
            f"{file} cannot be {done} by user {user}: {error.strerror}. Use a file of this user "
            f"in a folder of this user; {file.absolute().parent} may not be one. As root, "
            f"'install -d -o {user} -m 0700 FOLDER' makes one."
        ) from error
    except OSError as error:
        raise click.ClickException(f"{file} cannot be {done}: {error.strerror}") from error
