"""Odd request lines, and headers that are hop-by-hop, doubled, folded or broken, mixed at random.

What each is answered is HTTP's business and not written down here. It is no fault of the
server, it is in one of our envelopes with its request id, and no log has a key.
"""

import json
import re

import pytest
from hypothesis import strategies as st

from tests.postgresql import wait_until
from tests.server.hostile import Request, any_of

pytestmark = pytest.mark.slow

#: The members of an error, in each dialect where it is an object.
ENVELOPES = [
    {"message", "type", "param", "code"},
    {"message", "type", "param", "code", "errors"},
    {"message", "type"},
    {"message", "code", "status"},
]
#: Long enough for every Content-Length below that is not refused, and a chunked body too.
BODY = b"2\r\n{}\r\n0\r\n\r\n"

methods = any_of(
    ["GET"] * 12,
    ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE", "BREW", "FOO-BAR"],
)
targets = any_of(
    ["/v1/models", "/v1/models/kept", "/v1beta/models", "/api/tags", "/api/show", "/healthz"] * 6,
    ["/", "/v1/models/none", "/admin/models", "/admin/models/kept", "/admin/keys/x/rotate"] * 2,
    ["*", "http://x", "http://x?y", "http://x#y", "http://x/v1/models", "http://u:p@x:y/healthz"],
    ["ftp://x/", "/v1/models?limit=1", "/v1/models?" + "%ff&" * 1500, "/?" + "&" * 5000, "/.."],
    [
        "//",
        "///v1/models",
        "/v1//models",
        "/%",
        "/%zz",
        "/%ff",
        "/%00",
        "/%0d%0aX:y",
        "/%2F",
        "/.",
    ],
    ["/v1/models/%2e%2e", "/v1/models/%C0%AF", "/v1/models/KEY", "/v1/models?key=KEY", "/#KEY"],
    ["/v1/models?%6bey=KEY", "http://KEY@x/"],
)
versions = any_of(["HTTP/1.1"] * 6, ["HTTP/1.0"])
#: Request lines that no parser should take.
bad_lines = any_of(
    [
        f"{method} / HTTP/1.1"
        for method in ("get", "G" * 1000, "", "G\0T", "GET:", "\r\nGET", "\xff")
    ],
    ["PRI * HTTP/2.0", "GET * HTTP/1.1", "GET host:443 HTTP/1.1", "CONNECT a:v1/models HTTP/1.1"],
    [
        f"GET {target} HTTP/1.1"
        for target in ("http://[", "?x", "x", "/\xff", "/\0", "/KEY\xff", "/ ")
    ],
    [
        "GET /" + "x" * 9000 + " HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "KEY / HTTP/1.1",
        "GET /KEY",
        "KEY",
    ],
    [
        "GET / HTTP/0.9",
        "GET / HTTP/2.0",
        "GET / HTTP/11.1",
        "GET / http/1.1",
        "GET / HTTP/1.1 KEY",
    ],
    ["GET /", "GET  / HTTP/1.1", "GET\t/ HTTP/1.1", "GET /KEY HTTP/-1.1", "GET / HTTP/1.2"],
)
#: Headers that a request may have.
headers = any_of(
    ["Connection: Upgrade\r\nUpgrade: websocket"] * 3,
    [
        f"Connection: {value}"
        for value in ("close", "keep-alive", "close, keep-alive", ",", "TE", "x-api-key", "KEY")
    ],
    [f"Upgrade: {value}" for value in ("websocket", "h2c", "TLS/1.0", "WEBSOCKET, h2c", "KEY")],
    ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"],
    ["HTTP2-Settings: AAMAAABkAAQAAP__", "Keep-Alive: timeout=5, max=KEY", "Proxy-Connection: x"],
    [f"TE: {value}" for value in ("trailers", "chunked", "gzip;q=nan", "trailers, deflate;q=2")],
    ["Trailer: Authorization", "Trailer: Content-Length", "Max-Forwards: 0", "Via: 1.1 KEY"],
    [
        "Transfer-Encoding: chunked",
        "Content-Length: 12",
        "Content-Length: 0",
        "Expect: 100-Continue",
    ],
    [
        f"Host: {value}"
        for value in (
            "",
            "[",
            "[::1",
            "a b",
            "..",
            "x" * 300,
            "\xe9",
            "xn--a",
            "a:b",
            "a/b",
            "KEY",
        )
    ],
    ["X-HTTP-Method-Override: DELETE", "X-Method-Override: KEY", "X-Original-URL: /admin/models"],
    [
        "X-Forwarded-Proto: https",
        "X-Forwarded-For: KEY",
        "Forwarded: for=x",
        "X-Forwarded-Host: [",
    ],
    ["Range: bytes=0-", "If-Range: x", "If-None-Match: *", 'If-Match: "', "If-None-Match: W/"],
    [f"Accept-Encoding: {value}" for value in ("gzip;q=nan", "gzip;q=", ";", "gzip;" * 900)],
    ["Origin: null", "Access-Control-Request-Method: x", "Access-Control-Request-Headers: \xe9"],
    ["Authorization: KEY", "Authorization: Basic KEY", "Authorization: Bearer KEY, Bearer KEY"],
    ["Authorization:", "Proxy-Authorization: Bearer KEY", "X-Api-Key: KEY", "Api-Key: \xff"],
    ["X-Goog-Api-Key: KEY", "X-Goog-Api-Client:", "Anthropic-Version: x", "anthropic-version:"],
    ["SCRIPT_NAME: /x", "Content_Length: 5", "KEY: x", "X_Api_Key: KEY", "Authorization_: KEY"],
    ["Referer: https://example.com/?key=KEY", "Cookie: key=KEY; x=KEY", "User-Agent: KEY"],
    ["X-Request-ID: KEY", "X-Request-ID: \xe9", "Content-Type: ;;=;", "Content-Encoding: KEY"],
    ["N" * 8000 + ": x", "X: " + "x" * 8000, "X:"],
)
#: Headers that no parser should take.
bad_headers = any_of(
    [
        f"Transfer-Encoding: {value}"
        for value in ("gzip", "identity", "x", ",chunked", "chunked, chunked", "KEY")
    ],
    [
        f"Content-Length: {value}"
        for value in (
            "+5",
            "-1",
            "0x5",
            "5, 5",
            "",
            "9" * 5000,
            "\xb2",
            "KEY",
            "12\r\nContent-Length: 0",
        )
    ],
    [
        "Expect: x",
        "Expect: KEY",
        "Host: x\r\nHost: KEY",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off",
    ],
    ["X KEY: x", ": KEY", ":KEY: x", "KEY", ":"],
    ["X: " + "x" * 9000, "\xe9: x", "X\0: KEY", "X: \0KEY", "\r\n".join(["X: x"] * 65)],
)
#: What happens to a header on its way; {0} is its name, {1} what follows the colon.
changes = any_of(
    [
        "{0}:{1}\r\n{0}:{1}",
        "{0}:{1}\r\n{0}:",
        "{0}:\r\n {1}",
        "{0}:\r\n\t{1}\r\n ",
        "{0}\r\n :{1}",
    ],
    ["{0}:{1}\n{0}:{1}", "{0}:{1}\r{0}:{1}", "{0}:{1}\n x", "{0}:{1}\0", "{0} :{1}", " {0}:{1}"],
    ["{0}:\t{1} \t", "{0};{1}", "{0}", "{0}::{1}", "{0}:{1}\x7f", "{0}:{1}\x0b", "{0}:{1}\n"],
)
#: How a key is written.
spellings = any_of(
    [lambda key: key] * 9,
    [lambda key: f"{key[:28]}\r\n {key[28:]}", lambda key: f"{key[:28]}\r\n{key[28:]}"],
    [lambda key: key.replace("_", "%5F"), str.upper, lambda key: f"{key[:28]}%0a{key[28:]}"],
)


@st.composite
def odd_requests(draw, target):
    """A request of which each part may be odd; an administrator's key is never in its place."""
    line = f"{draw(methods)} {draw(targets)} {draw(versions)}"
    lines = draw(st.lists(headers, max_size=5))
    match draw(st.sampled_from(["nothing", "nothing", "line", "header", "change"])):
        case "line":
            line = draw(bad_lines)
        case "header":
            lines.append(draw(bad_headers))
        case "change":
            lines.append(draw(changes).format(*draw(headers).partition(":")[::2]))
    if not any(each.startswith("Host:") for each in lines):
        lines.append("Host: localhost")
    head = "\r\n".join([line, *lines])
    right = re.search(
        r"^(proxy-)?authorization|x-(goog-)?api-key", head, re.IGNORECASE | re.MULTILINE
    )
    keys = target.bad_keys if right else [target.admin_key, target.read_key]
    key = draw(spellings)(draw(st.sampled_from(keys)))
    raw = f"{head}\r\n\r\n".replace("KEY", key).encode("latin-1") + BODY
    return Request(raw, frozenset(), refusable=True, broken=True)


def check_ours(sent, answer):
    """Fail unless an answer is in one of our envelopes, and no fault of the server."""
    # 501 is for a transfer coding that is not known (RFC 9112, section 6.1).
    unknown_coding = answer.status == 501 and b"transfer-encoding" in sent.raw.lower()
    assert answer.status in (200, 204, 304) or 400 <= answer.status < 500 or unknown_coding
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.headers["x-request-id"])
    assert answer.headers.get_all("x-request-id") == answer.headers.get_all("request-id")
    assert "nosniff" == answer.headers["X-Content-Type-Options"]
    if answer.status in (204, 304) or sent.raw.startswith(b"HEAD "):
        assert b"" == answer.body
        return
    assert "application/json" == answer.headers["Content-Type"]
    document = json.loads(answer.body)
    if answer.status >= 400:
        error = document["error"]
        assert isinstance(error, str) or error.keys() in ENVELOPES


def test_odd_requests_are_answered_as_any_other(target):
    """Whatever a request looks like, its answer is ours, and its id is in a log of ours."""
    ids = set()

    def check(sent, answer):
        check_ours(sent, answer)
        ids.add(answer.headers["x-request-id"])

    target.check = check
    target.attack(odd_requests(target), 1500)

    def logged():
        text = "".join(path.read_text() for path in target.server.logs)
        return ids <= set(re.findall(r'"request_id": "([^"]+)"', text))

    wait_until(logged)
