"""Hostile headers: media types, preconditions, request ids, and what else a client may send."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.hostile import (
    JSON,
    any_of,
    check_logs,
    dumped,
    field_values,
    latin,
    request,
    writes,
)

pytestmark = pytest.mark.slow


@st.composite
def bad_media(draw, target):
    """A legal write that does not say it is plain JSON."""
    method, path, legal = draw(writes(target))
    types = field_values.filter(lambda v: not v.strip().lower().startswith(b"application/json"))
    codings = field_values.filter(lambda value: value.strip(b" \t"))
    headers = draw(
        st.one_of(
            st.just([]),
            types.map(lambda value: [(b"Content-Type", value)]),
            any_of(
                [
                    b"text/plain",
                    b"application/jsonx",
                    b"application/json5",
                    b"text/json",
                    b"Q" * 300,
                ],
                [b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b";"],
                [b"application/json, text/plain", b"application/merge-patch+json", b"\xe9/\xe9"],
            ).map(lambda value: [(b"Content-Type", value)]),
            (
                codings
                | st.sampled_from([b"gzip", b"identity", b"br, gzip", b"x" * 300, b"\xff", b'""'])
            ).map(lambda value: [JSON, (b"Content-Encoding", value)]),
        )
    )
    return request(method, path, target.authorized, *headers, body=dumped(legal), expected=415)


def test_anything_but_plain_json_is_refused(target):
    """A write in another media type, or encoded in any way, is a 415."""
    target.attack(bad_media(target), 450)


@st.composite
def bad_preconditions(draw, target):
    """A write under a precondition that the entry does not meet."""
    now = target.etag.strip('"')
    match = st.one_of(
        st.sampled_from(
            [
                "",
                '""',
                now,
                f"'{now}'",
                f'W/"{now}"',
                f'w/"{now}"',
                f'"{now}',
                f'{now}"',
                f'"0{now}"',
                f'"+{now}"',
                f'" {now}"',
                f'"{now}.0"',
                f'x"{now}"',
                f'"{now}"x',
                f'W/ "{now}"',
                f'"{now}" "{now}"',
                f'"x{now}", W/"{now}"',
                "**",
                '"*"',
                "*x",
                f'"{now}", *',
                '"99999999999999999999"',
                '"' + "9" * 7000 + '"',
                ", ".join(f'"{number}00000"' for number in range(1, 600)),
                '"a3c1f0d2b4e5968778695a4b3c2d1e0f"',
                '"²"',
                "\xff",
            ]
        ),
        st.text("\"W/*, x9\xff'", max_size=30).filter(lambda text: text.strip() != "*"),
    ).map(latin)
    method, body = draw(
        st.sampled_from([("PATCH", {}), ("PUT", {"owned_by": "x"}), ("DELETE", None)])
    )
    # A precondition that is wrongly met must show in the status alone.
    value = draw(match)
    if now.encode() in value:
        method, body = "PATCH", {}
    return request(
        method,
        "/admin/models/kept",
        target.authorized,
        JSON,
        (b"If-Match", value),
        body=b"" if body is None else dumped(body),
        expected=412,
        code="revision_mismatch",
    )


def test_a_malformed_if_match_matches_nothing(target):
    """An If-Match that is not exactly the entry's tag is a 412, however near it comes."""
    target.attack(bad_preconditions(target), 350)


#: Headers that a reader may send with any value, and what clients and proxies add.
idle_headers = any_of(
    ["Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Origin", "Referer", "Range", "TE"],
    ["SCRIPT_NAME", "PATH_INFO", "X_Forwarded_For", "Content_Length", "X_Api_Key", "session_id"],
    ["User-Agent", "If-Modified-Since", "If-Range", "Forwarded", "X-Forwarded-For", "X-Junk"],
    ["X-Forwarded-Host", "X-Original-URL", "X-HTTP-Method-Override", "Upgrade", "Via", "Pragma"],
    [
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
        "Script-Name",
        "X-Script",
    ],
)


@st.composite
def idle_reads(draw, target):
    """A read with headers that should change nothing."""
    headers = draw(
        st.lists(st.tuples(idle_headers.map(latin), field_values), min_size=1, max_size=6)
    )
    headers += draw(
        st.sampled_from(
            [
                [],
                [(b"X-HTTP-Method-Override", b"DELETE")],
                [(b"If-Match", b'"' + b"9" * 7000 + b'"')],
                [(b"If-None-Match", b'"' + b"x" * 7000)],
                [(b"X-Forwarded-Proto", b"javascript")],
                [(b"Content-Encoding", b"gzip"), (b"Content-Type", b"\xff")],
                [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade, HTTP2-Settings")],
                [(b"X-Large", b"Q" * 8000)] * 3,
                [(b"X-Proxy", b"x")] * 50,
            ]
        )
    )
    path = draw(st.sampled_from(["/v1/models", "/v1/models/kept", "/healthz", "/"]))
    method = draw(st.sampled_from(["GET", "HEAD"]))
    return request(method, path, *headers, expected=200)


def test_idle_headers_change_nothing(target):
    """A read with any headers that do not concern it is answered."""
    target.attack(idle_reads(target), 400)


@st.composite
def odd_heads(draw, target):
    """A read or a legal write with headers that gunicorn refuses."""
    method, path, legal = draw(writes(target))
    name, value = draw(
        st.sampled_from(
            [
                (b"Expect", b"201-created"),
                (b"Host", b"other"),
                (b"X-Large", b"Q" * 9000),
                (b"X-Many", b"x" + b"\r\nX-Many: x" * 64),
                (b"Content-Type", b"text/plain"),
                (b"", b"x"),
                (b"X Y", b"x"),
                (b"X\xe9", b"x"),
                (b"X-Fold", b"a\r\n b"),
                (b"X-Bare", b"a\nX: b"),
            ]
        )
        | st.sampled_from([*range(9), *range(11, 13), *range(14, 32), 127]).map(
            lambda code: (b"X-Control", b"a%cb" % code)
        )
        | st.binary(min_size=1, max_size=9)
        .filter(lambda junk: not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", junk))
        .filter(lambda junk: b":" not in junk)
        .map(lambda junk: (b"X" + junk + b"X", b"x"))
    )
    return request(
        method,
        path,
        target.authorized,
        JSON,
        (name, value),
        body=dumped(legal),
        refusable=True,
        broken=True,
    )


def test_malformed_headers_never_reach_the_application(target):
    """A legal write beside a header that HTTP does not know is refused by the parser."""
    target.attack(odd_heads(target), 350)


def test_a_request_id_is_taken_only_if_well_formed(target):
    """A well-formed X-Request-ID comes back; for any other there is a fresh one."""
    well_formed = re.compile(rb"[A-Za-z0-9._-]{1,128}")

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(
        field_values.map(lambda value: value.strip(b" \t"))
        | st.text("aZ9._-", max_size=128).map(latin)
        | st.sampled_from(
            [b"x" * 128, b"x" * 129, b"a,b", b"a\xa0", b"req_\xb2", b"\xe9", b"*" * 500]
        )
    )
    def each(given_id):
        wire = target.wires[0]
        sent = request("GET", "/healthz", (b"X-Request-ID", given_id), expected=200)
        answer = wire.send(sent)
        target.check(sent, answer)
        shown = answer.headers["x-request-id"]
        if well_formed.fullmatch(given_id):
            assert given_id.decode() == shown
        else:
            assert re.fullmatch(r"req_[0-9A-Za-z]{24}", shown)

    each()


def test_a_key_is_no_request_id(target):
    """A key sent as X-Request-ID is not repeated, neither to the caller nor to the log."""
    for key in sorted(target.keys):
        answer = target.server("GET", "/healthz", X_Request_ID=key)

        assert re.fullmatch(r"req_[0-9A-Za-z]{24}", answer.headers["x-request-id"])
    check_logs(target.server, target.keys)
