"""A file is read by its media type or its first line, strictly, and within bounds."""

import json
import resource
import subprocess
import sys

import pytest

from app.catalog.errors import InvalidJson, InvalidValue
from app.sources import reading
from app.sources.reading import read
from tests.pages import ROOT

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("body", "media_type", "kind", "value"),
    [
        (b'{"data": []}', None, "json", {"data": []}),
        (b' \n[\n{"id": "x"}\n]', None, "json", [{"id": "x"}]),
        (b'{\n"data": []\n}', "text/plain", "json", {"data": []}),
        (b'{"data": []}', "application/json; charset=utf-8", "json", {"data": []}),
        (b'{"a": 1}\n\n{"id": "x"}\n', None, "ndjson", [{"a": 1}, {"id": "x"}]),
        (b'{"id": "x"}', None, "ndjson", [{"id": "x"}]),
        (b'{"id": "x"}', "application/json", "ndjson", [{"id": "x"}]),
        (b"5\n", "application/x-ndjson", "ndjson", [5]),
        (b"id,name\nx,X\n\ny\n", None, "csv", [{"id": "x", "name": "X"}, {"id": "y"}]),
        (b'name;id\r\n"a;""b";x\r\n', None, "csv", [{"name": 'a;"b', "id": "x"}]),
        (b"name\tid\nX\tx\n", "text/plain", "csv", [{"name": "X", "id": "x"}]),
        (BOM + b"id\nx\n", None, "csv", [{"id": "x"}]),
        (b'\n"id", name\nx,"two\nlines"', None, "csv", [{"id": "x", "name": "two\nlines"}]),
        (b"model\nx\n", "text/csv", "csv", [{"model": "x"}]),
        (BOM + b"x\r\n\n# y\n", None, "text", ["x\r", "", "# y", ""]),
        (b"a,b\n", None, "text", ["a,b", ""]),
    ],
)
def test_a_file_is_what_its_type_or_its_first_line_says(body, media_type, kind, value):
    """Without a type, or as text/plain, JSON, NDJSON, CSV and lines are told apart by content."""
    content = read(body, media_type)

    assert (kind, value) == (content.kind, content.value)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The file is empty: it must be a list of models."),
        (BOM + b" \n", "The file is empty: it must be a list of models."),
        (
            BOM + b"\n<!DOCTYPE html>\n<html>",
            "The file is an HTML page and no catalogue: is the URL right, and does it want a key?",
        ),
        (
            b"<html lang=en>",
            "The file is an HTML page and no catalogue: is the URL right, and does it want a key?",
        ),
        (b'{"data": [{"id": NaN}]}', "NaN is not JSON."),
        (b'{"a": 1, "a": 2}', "The key 'a' appears twice in one object."),
        (b"[1e999]", "The number 1e999 is too large."),
        (b"[" * 33 + b"]" * 33, "The text is nested deeper than 32 levels."),
        (
            b'[{"id": "x"}, {"id"',
            "The text is not JSON: Expecting ':' delimiter at line 1 column 20.",
        ),
        (BOM + b"[]", "The text begins with a byte order mark: save it as UTF-8 without one."),
        (b'{"a": "\xff"}', "The text is not UTF-8, from byte 7 on: save it as UTF-8."),
        (b"\xff\xfei\0d\0", "The text is UTF-16: save it as UTF-8."),
        (b"\xff", "The text is not UTF-8, from byte 0 on: save it as UTF-8."),
        (b'{"id": "x"}\n{"id": NaN}\n', "Line 2 of the file: NaN is not JSON."),
        (
            b'[1]\n\n{"id": "y"',
            "The text is not JSON: Extra data at line 3 column 1.",
        ),
        (
            b"{}\n5x",
            "Line 2 of the file: The text is not JSON: Extra data at line 1 column 2.",
        ),
        (b"id,name,id\n", "The file is CSV that has a column twice."),
        (b"id\nx\ny,z\n", "Line 3 of the file has more cells than the header."),
        (b'id\nx\n"y', "The file is no CSV at line 3: unexpected end of data."),
        (b'id\n"x"y\n', "The file is no CSV at line 2: ',' expected after '\"'."),
        (
            b"id\n" + b"x" * 131_073,
            "The file is no CSV at line 2: field larger than field limit (131072).",
        ),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(body, sentence):
    """It says what is wrong, and where the line is that is wrong."""
    with pytest.raises((InvalidJson, InvalidValue)) as caught:
        read(body)

    assert sentence == str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "part", "end", "times"),
    [
        ("{", '"a":1,', '"a":1}', 10**6),
        ("[", "[", "", 10**7),
        ("", '{"a":', "1", 10**4),
        ('{"data":[{"id":"', "aaaaaaaaaa", '"}]}', 10**6),
        ('{"data":[', '{"id":"aaaaaaaaaa"},', "", 10**6),
        ("[", "{},", "0]", 2 * 10**7),
        ("", "{}\n", "", 2 * 10**7),
        ("id\n", "a\n", '"', 10**7),
        ("", " ", "{", 6 * 10**7),
        ("", "x\n", "", 10**6),
    ],
)
def test_a_hostile_file_takes_bounded_memory(begin, part, end, times):
    """No file needs more than 1 GiB, however little a value of it is, or 64 MiB of its length."""
    program = (
        "import sys\nfrom app.sources.reading import read\n"
        "begin, part, end, times = sys.argv[1:]\n"
        "try: print(read((begin + part * int(times) + end).encode()).kind)\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, begin, part, end, str(times)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)),
    )

    assert done.stdout.strip() in ("InvalidJson", "InvalidValue", "json", "text")


def test_a_file_has_a_most_of_values(monkeypatch):
    """Commas, brackets and lines are counted before anything is read."""
    monkeypatch.setattr(reading, "MAX_VALUES", 3)
    read(json.dumps([1, 2, 3]).encode())
    with pytest.raises(InvalidValue) as caught:
        read(json.dumps([1, 2, 3, 4]).encode())

    assert "The file has more than 3 values: split it." == str(caught.value)
