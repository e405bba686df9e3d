"""What is no request at all: gunicorn's own parser refuses it, and logs no key."""

import pytest
from hypothesis import strategies as st

from tests.server.hostile import Request

pytestmark = pytest.mark.slow


@st.composite
def malformed(draw, target):
    """Bytes that are no HTTP request, with a key somewhere in them."""
    key = draw(st.sampled_from([target.admin_key, target.read_key, *target.bad_keys])).encode()
    junk = draw(st.binary(max_size=8).filter(lambda b: not set(b) & set(b"\r\n")))
    line = draw(
        st.sampled_from(
            [
                b"Authorization Bearer " + key,
                b"Authorization : Bearer " + key,
                b" Authorization: Bearer " + key,
                b"Authorization: Bearer\r\n " + key,
                b"Authorization: Bearer " + key + b"\0",
                b"Authorization: Bearer " + key[:28] + b"\r\n " + key[28:],
                b"Authorization: Bearer " + key[:28] + b"\0" + key[28:],
                b"Authorization: Bearer " + key[:28] + b"\r\n" + key[28:] + b"\r\n\t: x",
                b"Referer: https://example.com/" + key[:28] + b"\r\n" + key[28:],
                key[:28] + b" " + key[28:] + b": x",
                b"Authorization: Bearer " + key + b"\r",
                b"Authorization: Bearer " + key + b"\nX: y",
                b"Authorization: Bearer\0" + key,
                b"Authorization\0: Bearer " + key,
                b"Authorization: Bearer " + key + b"Q" * 9000,
                b"Authorization(" + key + b"): x",
                b"Bearer " + key,
                b"x-api-key " + key,
                b"x-api-key; " + key,
                b":x-api-key: " + key,
                b": Bearer " + key,
                key,
                b"X-\xc3\xb6: " + key + b"\r\nX Y: " + key,
                b"'" + key + b"'",
                b'{"key": "' + key + b'"}',
                b"Host: x\r\nHost: " + key,
                b"Content-Type: a\r\nContent-Type: " + key,
                b"Content-Length: " + key,
                b"Transfer-Encoding: " + key,
                b"Expect: " + key,
                b"\0" + junk + key + junk,
                b"x" + junk.replace(b":", b"") + b" " + key + b" \0",
            ]
        )
    )
    start = draw(
        st.sampled_from(
            [
                b"POST /admin/models HTTP/1.1",
                b"GET /admin/models HTTP/1.1",
                b"DELETE /admin/models/kept HTTP/1.1",
            ]
        )
    )
    broken_start = draw(
        st.sampled_from(
            [
                b"GET /v1/models?key=" + key,
                b"GET /v1/models?key=" + key + b" x HTTP/1.1",
                b"GET /v1/models?key=" + key + b" HTTP/9.9",
                b"GET /v1/models?key=" + key + b" http/1.1",
                b"GET /v1/models?x=\xff&key=" + key + b" HTTP/1.1",
                b"GET /v1/models/" + key + b"\0 HTTP/1.1",
                b"GET\t/" + key + b" HTTP/1.1",
                b"get /" + key + b" HTTP/1.1",
                key + b" / HTTP/1.1",
                key,
                b"GE " + key + b" HTTP/1.1",
                b"GET  /" + key + b" HTTP/1.1",
                b"GET /" + b"Q" * 9000 + key + b" HTTP/1.1",
                b"PRI * HTTP/2.0\r\nX: " + key,
                b"\x16\x03\x01" + junk + key,
                b"PROXY TCP4 " + key,
                b"GET /%ff" + junk + b"\xff" + key + b" HTTP/1.1",
                b"GET /" + key[:28] + b"\x7f" + key[28:] + b" HTTP/1.1",
                b"GET /v1/models?%6bey=" + key[12:] + b"\xff HTTP/1.1",
                key[12:].upper() + b" / HTTP/1.1",
            ]
        )
    )
    raw = draw(
        st.sampled_from(
            [
                start + b"\r\nHost: localhost\r\n" + line,
                start + b"\r\n" + line + b"\r\nHost: localhost",
                broken_start + b"\r\nHost: localhost",
                broken_start + b"\r\nHost: localhost\r\n" + line,
            ]
        )
    )
    return Request(raw + b"\r\n\r\n", frozenset(), refusable=True, broken=True)


def test_what_is_no_request_is_refused_and_not_logged(target):
    """Malformed heads never reach the application, and no key in them reaches the log."""
    target.attack(malformed(target), 800)
