"""What becomes of a test that lacks something."""

import os
from typing import NoReturn

import pytest


def lacking(sentence: str) -> NoReturn:
    """Skip the test with a sentence that says what to install; fail it where CI is set."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(sentence)
