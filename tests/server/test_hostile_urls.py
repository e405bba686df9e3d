"""Hostile ids, queries and methods."""

import re
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import strategies as st

from tests.server.hostile import JSON, any_of, dumped, encoded, request, texts, writes

pytestmark = pytest.mark.slow

#: Pieces of a path of which each makes it the id of nothing.
strange = any_of(
    [
        "%00",
        "%ff",
        "%C0%AE",
        "%F0%9F",
        "%ED%A0%80",
        "%0d%0aX:%20y",
        "%1b",
        "%7f",
        "%5C",
        "%25",
        "%3F",
    ],
    ["%", "%zz", "%u0041", "%23", "../", "./", "%2e%2e%2f", "..%2F", "%2F%2F", "//", "%E2%80%AE"],
    ["'%20OR%20'1'='1", '"', ";DROP%20TABLE%20models;--", "%22%27", "*", "<script>", "${7*7}"],
    ["x" * 257, "x" * 7000, "%F0%9F%92%A9" * 100, "Q" * 61, "{}", "|", "^", "`", "models/"],
)


@st.composite
def strange_ids(draw):
    """The path of an id that no entry has: at least one piece of it is strange."""
    around = st.text("abk/ept.~:@!$&()*+,;=-_", max_size=6) | st.just("kept")
    junk = st.binary(max_size=8).map(quote_from_bytes)
    parts = [draw(around | junk | strange) for _ in range(draw(st.integers(0, 2)))]
    parts.insert(draw(st.integers(0, len(parts))), draw(strange))
    return "".join(parts)[:7900]


@st.composite
def strange_paths(draw, target):
    """A request for an entry or a key that cannot be there."""
    strange_id = draw(strange_ids())
    method, path, body, expected = draw(
        st.sampled_from(
            [
                ("GET", "/v1/models/", b"", {404}),
                ("HEAD", "/v1/models/", b"", {404}),
                ("GET", "/admin/models/", b"", {404}),
                ("DELETE", "/admin/models/", b"", {404}),
                ("PATCH", "/admin/models/", b"{}", {404}),
                ("DELETE", "/admin/keys/", b"", {404}),
                ("POST", "/admin/keys/", b"{}", {404, 405}),
                ("GET", "/", b"", {404}),
                ("GET", "/v1/", b"", {404}),
                ("GET", "/admin/", b"", {404}),
            ]
        )
    )
    tail = "/rotate" if method == "POST" else ""
    if path in ("/", "/v1/", "/admin/"):
        # Werkzeug takes several slashes at the start for one, and models/kept is not strange.
        strange_id = "x" + strange_id
    return request(
        method,
        path + strange_id + tail,
        target.authorized,
        JSON,
        body=body,
        expected=expected,
    )


def test_strange_ids_are_unknown(target):
    """An id that cannot be is a 404, on every route and in every encoding."""
    target.attack(strange_paths(target), 800)


@st.composite
def strange_creations(draw, target):
    """A PUT to an id that cannot be: refused for the id, or for being no URL of ours."""
    illegal = draw(
        any_of(
            ["%00", "%ff", "%5C", "%25", "%3F", "%23", "%0A", "%7f", "%C3%A9", "%ED%A0%80", "%20"],
            ["/../x", "/./x", "//x", "/", "%2F", "/%2e%2e", "x" * 257, "%E2%80%AE" * 50],
        )
    )
    return request(
        "PUT",
        "/admin/models/" + draw(st.sampled_from(["new", "a b".replace(" ", "%20")])) + illegal,
        target.authorized,
        JSON,
        body=b"{}",
        expected={404, 422},
    )


def test_strange_ids_cannot_be_made(target):
    """An entry cannot be made under an id that some client could not fetch."""
    target.attack(strange_creations(target), 30)


@st.composite
def bad_queries(draw, target):
    """A request with a query parameter that is out of its range, or unknown to administrators."""
    limits = any_of(
        [
            "0",
            "-1",
            "1001",
            "1e3",
            "1.0",
            " 5",
            "5 ",
            "+5",
            "",
            "NaN",
            "true",
            "0x10",
            "1_0",
            "1\0",
        ],
        [
            "\N{FULLWIDTH DIGIT NINE}",
            "١٢",
            "²",
            "9" * 400,
            "5\n",
            "'",
            "5;",
            "null",
            "\N{PILE OF POO}" * 80,
            "Q" * 200,
        ],
    ) | texts.filter(lambda text: not re.fullmatch(r"[0-9]+", text, re.ASCII))
    cursors = any_of(
        [
            "",
            " a",
            "a ",
            "a\0",
            "é",
            "..",
            "a/../b",
            "/a",
            "models/a",
            "a?b",
            "a#b",
            "a%b",
            "a\\b",
        ],
        ["Q" * 257, "Q" * 2000, "\n"],
    )
    read = st.sampled_from(["/v1/models", "/admin/models"])
    everywhere = st.sampled_from(
        ["/v1/models", "/v1/models/kept", "/healthz", "/no", "/admin/keys"]
    )
    plain = st.one_of(
        st.tuples(everywhere, st.sampled_from(["&" * 64, "&" * 5000, "x=1&" * 1500, "%ff&" * 99])),
        st.tuples(read, limits.map(encoded).map("limit={}".format)),
        st.tuples(read, cursors.map(encoded).map("after={}".format)),
        st.tuples(
            st.sampled_from(["/admin/models", "/admin/models/kept", "/admin/keys"]),
            texts.filter(lambda name: name not in {"limit", "after", "owned_by", "q"})
            .filter(bool)
            .map(encoded)
            .map("{}=1".format),
        ),
    )
    if draw(st.booleans()):
        path, query = draw(plain)
        method, body = "GET", b""
    else:
        method, path, legal = draw(writes(target))
        body = dumped(legal)
        query = draw(texts.filter(bool).map(encoded).map("x{}".format))
    return request(
        method,
        f"{path}?{query}"[:8000],
        target.authorized,
        JSON,
        body=body,
        expected=400,
        code="invalid_value",
        refusable=False,
    )


def test_bad_parameters_are_refused(target):
    """A parameter out of its range, or one that administrators do not have, is a 400."""
    target.attack(bad_queries(target), 600)


@st.composite
def idle_queries(draw, _target):
    """A read whose query is legal, strange as it looks."""
    path = draw(st.sampled_from(["/v1/models", "/v1/models/kept", "/healthz"]))
    names = st.sampled_from(["q", "owned_by", "x", "limit[]", "LIMIT", "", "q[$ne]", "%00"])
    parameters = draw(
        st.lists(
            st.builds("{}={}".format, names, texts.map(encoded))
            | st.binary(max_size=9).map(quote_from_bytes).map("x{}".format),
            max_size=8,
        )
    )
    query = "&".join(parameters)[:7900]
    query = draw(st.sampled_from([query, "&" * 63, "x=1&" * 63, "=", "q=%", "q=%zz&&q"]))
    return request("GET", f"{path}?{query}", expected=200)


def test_filters_take_any_text(target):
    """Any text may be looked for, and what the public routes do not know they ignore."""
    target.attack(idle_queries(target), 400)


# Methods


@st.composite
def bad_methods(draw, target):
    """A method that a route does not have."""
    strange_methods = st.sampled_from(
        ["TRACE", "PROPFIND", "LOCK", "SEARCH", "PURGE", "BREW", "QUERY", "ROSTER", "A-B", "GETT"]
    ) | st.text("ABCXYZ-_!", min_size=3, max_size=20)
    public = ["/v1/models", "/v1/models/kept", "/healthz", "/readyz", "/"]
    administration = ["/admin/models", "/admin/models/kept", "/admin/keys"]
    method, path = draw(
        st.one_of(
            st.tuples(strange_methods, st.sampled_from(public + administration)),
            st.tuples(
                st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), st.sampled_from(public)
            ),
            st.sampled_from(
                [
                    ("OPTIONS", "/admin/models"),
                    ("OPTIONS", "/admin/models/kept"),
                    ("OPTIONS", "/admin/keys"),
                    ("DELETE", "/admin/models"),
                    ("PUT", "/admin/models"),
                    ("POST", "/admin/models/kept"),
                    ("PATCH", "/admin/keys"),
                    ("GET", f"/admin/keys/{target.kid}"),
                    ("GET", f"/admin/keys/{target.kid}/rotate"),
                ]
            ),
        )
    )
    headers = draw(st.sampled_from([[], [target.authorized]]))
    body = draw(st.sampled_from([b"", b'{"id":"new","name":"new"}', b"\xff"]))
    return request(
        method,
        path,
        *headers,
        JSON,
        (b"Access-Control-Request-Method", b"DELETE"),
        body=body,
        expected=405,
    )


def test_methods_that_a_route_does_not_have_are_refused(target):
    """A method that a route does not have is a 405 that names those it has."""
    target.attack(bad_methods(target), 400)
