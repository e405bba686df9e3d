"""docs/design.md draws the ways of a read and of a write as the code goes them."""

import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import app as package
from tests.pages import section

APP = Path(package.__file__).parent


@pytest.fixture
def trace():
    """Call something and return the files of `app/` whose functions ran, in their order."""

    def run(call):
        files = []

        def note(frame, event, _):
            path = Path(frame.f_code.co_filename)
            if event == "call" and path.is_relative_to(APP):
                files.append(str(path.relative_to(APP)))

        sys.setprofile(note)
        try:
            answer = call()
        finally:
            sys.setprofile(None)
        return answer.status_code, files

    return run


def drawn(heading):
    """Return the files that a section of the page names in its steps."""
    steps = re.findall(r"^\d\. .*(?:\n   .*)*", section("docs/design.md", heading), re.MULTILINE)
    return {name for step in steps for name in re.findall(r"`([\w/]+\.py)`", step)}


def test_a_read_goes_the_way_that_is_drawn(trace, client, admin):
    """A cached list without a key enters the files of the page, at most 16, and goes straight."""
    admin.add("x")
    client.get("/v1/models")
    status, files = trace(lambda: client.get("/v1/models"))

    assert 200 == status
    assert drawn("The way of a read") == set(files)
    assert len(set(files)) <= 16
    assert sum(before != after for before, after in pairwise(files)) <= 18


def test_a_write_goes_the_way_that_is_drawn(trace, client, admin):
    """A new entry enters the files of the page, at most 26."""
    admin.add("x")
    client.get("/v1/models")
    status, files = trace(lambda: admin("POST", "/admin/models", {"id": "y"}))

    assert 201 == status
    assert drawn("The way of a write") == set(files)
    assert len(set(files)) <= 26
