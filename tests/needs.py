"""What a test needs and a machine may lack: a program, a package."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import pytest


def lacking(sentence: str) -> NoReturn:
    """Skip the test with a sentence that says what to install; on CI, where CI is set, fail it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(sentence)


def need_package(name: str) -> None:
    """Skip or fail the test unless a package of the extra ``test-all`` is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        lacking(f"{name} is not installed: pip install -e '.[test-all]'")
