"""Ten thousand hostile inputs against a real gunicorn: each refused, none with a trace.

Each request knows how it may be answered. Requests that write are made so that they cannot be
legal; those that may succeed only read, or would change nothing. What gunicorn's own parser
refuses, it may refuse in its own words; whatever reaches the application is answered in the
envelope of the contract.
"""

import itertools
import json
import re
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import quote, quote_from_bytes, unquote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.catalog.keys import mint
from app.schemas import AdminModelSchema, ArchitectureSchema, KeySchema, PermissionSchema

#: Seconds until an answer that does not come fails the test.
PATIENCE = 30
MAX_BODY = 64 * 1024
#: The codes of the contract, by status.
CODES = {
    400: {"invalid_json", "invalid_body", "invalid_value"},
    401: {"invalid_api_key", "missing_api_key"},
    403: {"insufficient_permissions"},
    404: {"model_not_found", "key_not_found", "unknown_url"},
    405: {"method_not_allowed"},
    412: {"revision_mismatch"},
    413: {"request_too_large"},
    415: {"unsupported_media_type"},
    422: {"validation_error"},
}
#: What gunicorn answers where it does not understand the request; 501 is for an unknown
#: transfer coding (RFC 9112, section 6.1).
REFUSALS = {400, 414, 417, 431, 501}
MODEL_FIELDS = tuple(AdminModelSchema().fields)
PERMISSION_FIELDS = tuple(PermissionSchema().fields)
KEY_FIELDS = (*KeySchema().fields, "grace")
#: Words of ours that an input may hold too, longest first: a message that says them repeats
#: nothing.
OWN_WORDS = sorted(
    {*MODEL_FIELDS, *PERMISSION_FIELDS, *KEY_FIELDS, *ArchitectureSchema().fields}
    | {"application/json"},
    key=len,
    reverse=True,
)
#: The shortest piece of input that counts as repeated, in characters.
PIECE = 12

JSON = (b"Content-Type", b"application/json")


@dataclass(frozen=True)
class Request:
    """One hostile request and the answers that it may get."""

    #: All of it, as it goes over the wire.
    raw: bytes
    #: The statuses that the application may answer with; none: it must never see it.
    expected: frozenset
    #: The code of the error, where only one is right.
    code: str | None = None
    #: The parts that come from outside, and that a message must not repeat at length.
    hostile: tuple = ()
    #: Whether gunicorn may refuse it before the application sees it.
    refusable: bool = False
    #: Whether its end is unclear, so that it needs a connection of its own.
    broken: bool = False


def request(method, target, *headers, body=b"", expected=(), length=True, **facts):
    """Return a request of exactly these bytes, with its true Content-Length unless told not to."""
    announced = [(b"Content-Length", b"%d" % len(body))] if length and body else []
    lines = [
        b"%s %s HTTP/1.1" % (method.encode("latin-1"), target.encode("latin-1")),
        b"Host: localhost",
        *(b"%s: %s" % header for header in (*headers, *announced)),
    ]
    facts.setdefault("hostile", (target.encode("latin-1"), body, *(v for _, v in headers)))
    return Request(
        b"\r\n".join(lines) + b"\r\n\r\n" + body,
        frozenset([expected] if isinstance(expected, int) else expected),
        **facts,
    )


class Answer:
    """What came back; None of it was there where the connection was closed without a word."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


class Wire:
    """A keep-alive connection that is opened anew after the server has closed it."""

    def __init__(self, port, *, half_closes=True):
        self.port = port
        #: Whether it is closed for writing after a request whose end is unclear.
        self.half_closes = half_closes
        self.socket = None

    def send(self, sent):
        if sent.broken:
            self.close()
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.socket.sendall(sent.raw)
        if sent.broken and self.half_closes:
            self.socket.shutdown(socket.SHUT_WR)
        method = sent.raw.partition(b" ")[0].decode("latin-1")
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        answer = Answer(response)
        if sent.broken or response.will_close:
            self.close()
        return answer

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def pieces(part):
    """Return the texts as which `part` of a request may come back in a message."""
    found = {part.decode("latin-1"), part.decode("utf-8", "replace")}
    found |= {unquote(text) for text in found}
    try:
        value = json.loads(part)
    except (ValueError, RecursionError):
        return found
    found.add(json.dumps(value))
    found.add(json.dumps(value, ensure_ascii=False))
    return found


def repeated(message, hostile):
    """Count the printable characters of `message`, but for spaces, that repeat the input."""
    for word in OWN_WORDS:
        message = message.replace(word, "\0")
    texts = ["".join(text.lower().split()) for part in hostile for text in pieces(part)]
    folded = "".join(message.lower().split())
    copied = set()
    for start in range(len(folded) - PIECE + 1):
        piece = folded[start : start + PIECE]
        if "\0" not in piece and any(piece in text for text in texts):
            copied |= set(range(start, start + PIECE))
    return sum(folded[place].isprintable() for place in copied)


def check(sent, answer):
    """Fail unless `answer` to `sent` is one that the contract allows, or gunicorn's refusal."""
    if answer.headers["Date"] is not None:  # gunicorn adds one to what the application answers
        check_own(sent, answer)
    else:
        assert sent.refusable, answer.body
        assert answer.status in REFUSALS, answer.body
        assert re.fullmatch(r"req_[0-9A-Za-z]{24}", answer.headers["x-request-id"])
        assert answer.headers["x-request-id"] == answer.headers["request-id"]


def check_own(sent, answer):
    """Fail unless the application's `answer` to `sent` is one that the contract allows."""
    request_id = answer.headers["x-request-id"]
    assert answer.status in sent.expected, answer.body
    assert request_id == answer.headers["request-id"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", request_id)
    assert "nosniff" == answer.headers["X-Content-Type-Options"]
    if answer.status in (204, 304) or sent.raw.startswith(b"HEAD "):
        assert b"" == answer.body
        return
    assert "application/json" == answer.headers["Content-Type"]
    document = json.loads(answer.body)
    if answer.status == 200:
        return
    assert {"error"} == document.keys()
    error = document["error"]
    if b"\nx-goog-api-key:" in sent.raw.lower() and b" /v1" in sent.raw:  # it says Gemini
        assert ["code", "message", "status"] == list(error)
        assert answer.status == error["code"]
    else:
        assert ["message", "type", "param", "code"] == [key for key in error if key != "errors"]
        assert "invalid_request_error" == error["type"]
        assert error["code"] in CODES[answer.status]
        assert sent.code in (None, error["code"])
        assert isinstance(error["param"], str | None)
    assert (answer.status == 401) == ("WWW-Authenticate" in answer.headers)
    assert (answer.status == 405) == ("Allow" in answer.headers)
    assert (answer.status == 422) == ("errors" in error)
    sentences = itertools.chain([error["message"]], *error.get("errors", {}).values())
    for sentence in sentences:
        assert sentence.isprintable()
        assert repeated(sentence, sent.hostile) <= 60, sentence


class Target:
    """A server with a catalogue and keys, and what an attacker may know of them.

    `wires` lead to the server or to what stands in front of it, and `check` judges what comes
    back over them.
    """

    def __init__(self, server, wires, keys, check=check):
        self.server = server
        self.wires = wires
        self.check = check
        #: Every key that was ever sent.
        self.keys = keys
        self.admin_key = server.admin_key
        for entry in server.admin("GET", "/admin/models").json["data"]:
            path = f"/admin/models/{quote(entry['id'], safe='')}"
            assert server.admin("DELETE", path).status == 204
        for entry in (
            {"id": "kept"},
            {"id": "kept/too", "permission": [{"organization": "acme"}]},
        ):
            assert server.admin("POST", "/admin/models", entry).status == 201
        key = server.admin("POST", "/admin/keys", {"name": "reader"}).json
        self.read_key = key["key"]
        self.kid = key["id"]
        revoked = server.admin("POST", "/admin/keys", {"name": "revoked"}).json
        assert server.admin("DELETE", f"/admin/keys/{revoked['id']}").status == 204
        self.bad_keys = [revoked["key"], mint(), mint()]
        keys.update([self.admin_key, self.read_key, *self.bad_keys])
        self.etag = server.admin("GET", "/admin/models/kept").headers["ETag"]

    @property
    def authorized(self):
        return (b"Authorization", b"Bearer " + self.admin_key.encode())

    def state(self):
        """Return everything that an attack must leave as it is."""
        return [
            self.server.admin("GET", "/admin/models").body,
            self.server.admin("GET", "/admin/keys").body,
            self.server("GET", "/readyz").json["revision"],
        ]

    def attack(self, requests, number):
        """Send `number` different requests; fail unless each is answered as it should be."""
        before = self.state()
        wires = itertools.cycle(self.wires)
        count = itertools.count()

        @settings(
            max_examples=number,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(requests)
        def each(sent):
            next(count)
            wire = next(wires)
            try:
                self.check(sent, wire.send(sent))
            except BaseException:
                wire.close()
                raise

        each()

        assert next(count) >= number
        assert before == self.state()
        check_logs(self.server, self.keys)


def check_logs(server, keys):
    """Fail if the logs hold a traceback or half of the secret part of any key, in any case."""
    for path in server.logs:
        logged = path.read_text(errors="replace").lower()
        assert "traceback" not in logged
        assert '"level": "error"' not in logged
        for key in keys:
            assert key[12:28].lower() not in logged
            assert key[28:44].lower() not in logged


# What inputs are made of


def any_of(*lists):
    """Return a strategy for any value of some lists."""
    return st.sampled_from([value for values in lists for value in values])


#: Any text, with a taste for what breaks things.
texts = st.text(max_size=80) | any_of(
    ["\0", "\ud800", "a\udfff", "\r\nX: y", "\x1b[31m", "'; DROP TABLE models; --", "{{7*7}}"],
    ["x" * 4000, "\N{PILE OF POO}" * 70, "%00", "../../etc/passwd", "ﬁ" * 90],
)
#: Any JSON value but null, which a merge patch takes for "remove".
values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
not_texts = values.filter(lambda value: not isinstance(value, str))
bad_texts = st.builds(
    "{}{}{}".format,
    st.text("ab", max_size=3),
    st.sampled_from(["\0", "\n", "\x7f", "\x85", "\u202e", "\ud800", "\udc00\ud800"]),
    texts,
) | st.integers(257, 9000).map("Q".__mul__)
not_whole = (
    values.filter(lambda value: not isinstance(value, int | float))
    | st.booleans()
    | st.floats(0.1, 1e6).filter(lambda value: not value.is_integer())
    | st.integers(-(2**63), -1)
    | st.integers(2**53, 2**63 - 1)
    | st.sampled_from(["5", 1e300, -1.0, "\N{FULLWIDTH DIGIT ONE}"])
)
not_flags = values.filter(lambda value: not isinstance(value, bool))
#: Long enough that a message which repeats too much of it is caught.
floods = st.integers(61, 64).map("K".__mul__)


def latin(text):
    return text.encode("latin-1")


def dumped(value):
    """Return JSON in which a lone surrogate is an escape, as a client would send it."""
    return json.dumps(value).encode()


def writes(target):
    """Return a method, a path and a body for each route that writes: legal, all of them."""
    return st.sampled_from(
        [
            ("POST", "/admin/models", {"id": "new"}),
            ("PUT", "/admin/models/new", {}),
            ("PUT", "/admin/models/kept", {"owned_by": "new"}),
            ("PATCH", "/admin/models/kept", {"owned_by": "new"}),
            ("POST", "/admin/keys", {"name": "new"}),
            ("POST", f"/admin/keys/{target.kid}/rotate", {"grace": 5}),
        ]
    )


def encoded(text):
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")


#: Header values as bytes: everything that HTTP lets through.
field_values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF).filter(
        lambda c: c == "\t" or not 0x7F <= ord(c) < 0x80
    ),
    max_size=60,
).map(latin)
