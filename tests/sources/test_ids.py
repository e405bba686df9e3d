"""One id a line."""

from tests.sources.reports import rows_of


def test_each_line_is_an_id():
    """Blank lines and comments are none; the place is the line."""
    body = b"\xef\xbb\xbf# mine\r\n\r\nacme/x:latest \r\n  a,b\n#c\nx"
    name, rows = rows_of(body)

    assert "ids" == name
    assert [(3, "acme/x:latest"), (4, "a,b"), (6, "x")] == [(row.place, row.id) for row in rows]
