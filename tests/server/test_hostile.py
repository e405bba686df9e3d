"""Several thousand hostile inputs against a real gunicorn: each refused, none with a trace.

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
from typing import ClassVar
from urllib.parse import quote, quote_from_bytes, unquote

import pytest
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
MODEL_FIELDS = (*AdminModelSchema().fields, "max_model_len", "max_input_tokens")
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
    #: Whether its end is unclear, so that it needs a connection of its own, closed for writing.
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

    def __init__(self, port):
        self.port = port
        self.socket = None

    def send(self, sent):
        if sent.broken:
            self.close()
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.socket.sendall(sent.raw)
        if sent.broken:
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
    """Fail unless `answer` is one that the contract allows for `sent`."""
    request_id = answer.headers["x-request-id"]
    if request_id is None:
        assert sent.refusable, answer.body
        assert answer.status in REFUSALS, answer.body
        return
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
    """A server with a catalogue and keys, and what an attacker may know of them."""

    def __init__(self, server, wires, keys):
        self.server = server
        self.wires = wires
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
                check(sent, wire.send(sent))
            except BaseException:
                wire.close()
                raise

        each()

        assert next(count) >= number
        assert before == self.state()
        check_logs(self.server, self.keys)


def check_logs(server, keys):
    """Fail if the logs hold a traceback or the secret part of any key, in any case."""
    for path in (server.out, server.err):
        logged = path.read_text()
        assert "Traceback" not in logged
        assert '"level": "error"' not in logged
        for key in keys:
            assert key[12:44].lower() not in logged.lower()


@pytest.fixture(scope="module")
def keys(server):
    """Every key that was ever sent; the logs are read once more when the server has stopped."""
    sent = set()
    yield sent
    server.stop()
    check_logs(server, sent)
    assert 0 == server.process.returncode


@pytest.fixture(scope="module")
def wires(server):
    """The few connections over which everything goes."""
    made = [Wire(server.port) for _ in range(4)]
    yield made
    for wire in made:
        wire.close()


@pytest.fixture
def target(server, wires, keys):
    return Target(server, wires, keys)


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
    st.sampled_from(["\0", "\n", "\x7f", "\x85", "\ud800", "\udc00\ud800"]),
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


# Bodies


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


#: Values that are no JSON, or none that 64 bits and 32 levels hold.
poisons = st.one_of(
    any_of(
        [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e400", b"9223372036854775808"],
        [b"-9223372036854775809", b"01", b"+1", b".5", b"1.", b"0x10", b"1_0", b"tru", b"None"],
        [
            b"undefined",
            b"'a'",
            b'"a',
            b'"\\x41"',
            b'"\\u12"',
            b'"a\nb"',
            b'"\0"',
            b"[1,]",
            b"{,}",
        ],
        [
            b"/**/1",
            b"1 2",
            b"",
            b",",
            b'{"a":1,"a":1}',
            b'{"a":{"b":1,"c":2,"b":3}}',
            b"[}",
            b"{]",
        ],
        [b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"', b"\xfe"],
    ),
    st.integers(20, 6000).map(lambda digits: b"9" * digits),
    st.integers(32, 30_000).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(32, 10_000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth),
    st.integers(1, 30_000).map(b"[".__mul__),
    floods.map(lambda name: latin(f'{{"{name}":1,"{name}":2}}')),
)


@st.composite
def not_json(draw, target):
    """A write whose body is not one strict JSON object."""
    method, path, legal = draw(writes(target))
    whole = dumped(legal)
    body = draw(
        st.one_of(
            poisons.map(
                lambda p: whole[:-1] + (b"," if legal else b"") + b'"metadata":' + p + b"}"
            ),
            poisons.map(lambda p: b'{"metadata":{"a":' + p + b"}}"),
            st.sampled_from(
                [
                    b"",
                    b" ",
                    b"\xef\xbb\xbf" + whole,
                    *(whole.decode().encode(code) for code in ("utf-16", "utf-16-le", "utf-32")),
                    whole + whole,
                    whole + b"\0",
                    whole + b";",
                    b"\0" + whole,
                    b"[" + whole + b"]",
                    whole.replace(b'"', b"'") + b"'",
                    b"id=new&owned_by=new",
                    b"<model/>",
                ]
            ),
            st.integers(1, len(whole)).map(lambda cut: whole[:-cut]),
            values.filter(lambda value: not isinstance(value, dict)).map(dumped),
            st.binary(max_size=200).map(b"}".__add__),
            st.binary(min_size=1, max_size=50).map(lambda junk: whole + b"}" + junk),
            st.just(b"null"),
        )
    )
    return request(
        method, path, target.authorized, JSON, body=body, expected=400, code="invalid_json"
    )


def test_bodies_that_are_not_json_are_refused(target):
    """A body that is not one strict JSON object is a 400 invalid_json, whatever is wrong."""
    target.attack(not_json(target), 900)


class Wrong:
    """Bodies that are JSON objects, but of no legal shape; none holds a null."""

    unknown_fields = texts.filter(lambda name: name not in {*MODEL_FIELDS, *KEY_FIELDS})
    bad_ids = st.one_of(
        st.builds(
            "{}{}{}".format, st.just("a"), st.sampled_from([*"?#%\\\x7f\n\0é\ud800"]), texts
        ),
        st.sampled_from(["", " a", "a ", "a//b", "/a", "a/", ".", "..", "a/../b", "models/a"]),
        st.integers(257, 5000).map("Q".__mul__),
        not_texts,
    )
    text_fields: ClassVar = [
        "owned_by",
        "root",
        "parent",
        "name",
        "shutdown_date",
        "deprecation",
        "description",
        "work_name",
        "work_video_path",
        "wm_work_video_path",
        "no_wm_work_video_path",
        "work_webp_path",
    ]
    whole_fields: ClassVar = ["created", "context_length", "max_output_tokens", "available_from"]
    list_fields: ClassVar = ["supported_parameters", "permission"]

    permissions = st.one_of(
        st.dictionaries(
            st.sampled_from([f for f in PERMISSION_FIELDS if f.startswith("allow")]),
            not_flags,
            min_size=1,
            max_size=2,
        ),
        st.fixed_dictionaries({"organization": not_texts | bad_texts | st.just("")}),
        st.fixed_dictionaries({"group": not_texts | bad_texts | st.just("")}),
        st.fixed_dictionaries({"is_blocking": not_flags}),
        st.fixed_dictionaries({"object": not_texts | st.just("model") | floods}),
        st.fixed_dictionaries({"created": not_whole}),
        st.dictionaries(
            texts.filter(lambda n: n not in PERMISSION_FIELDS), values, min_size=1
        ).filter(lambda p: not p.keys() <= {"id", "object", "created"}),
        values.filter(lambda value: not isinstance(value, dict)),
    )
    models = st.one_of(
        st.dictionaries(unknown_fields, values, min_size=1, max_size=30),
        st.dictionaries(unknown_fields, values, min_size=1, max_size=1).flatmap(
            lambda wrong: st.dictionaries(st.sampled_from(MODEL_FIELDS), values, max_size=4).map(
                lambda known: known | wrong
            )
        ),
        st.dictionaries(st.sampled_from(text_fields), not_texts, min_size=1, max_size=3),
        st.dictionaries(
            st.sampled_from([f for f in text_fields if f != "description"]), bad_texts, min_size=1
        ),
        st.fixed_dictionaries({"description": st.just("Q" * 4097)}),
        st.dictionaries(st.sampled_from(whole_fields), not_whole, min_size=1, max_size=3),
        st.fixed_dictionaries({"created": st.integers(2**32, 2**63 - 1)}),
        st.fixed_dictionaries({"id": bad_ids}),
        st.fixed_dictionaries({"deprecation_replacement_model": bad_ids}),
        st.fixed_dictionaries({"object": not_texts | texts.filter(lambda text: text != "model")}),
        st.dictionaries(
            st.sampled_from(list_fields),
            values.filter(lambda value: not isinstance(value, list)),
            min_size=1,
        ),
        permissions.map(lambda permission: {"permission": [permission]}),
        st.integers(101, 300).map(lambda count: {"permission": [{}] * count}),
        st.lists(not_texts | bad_texts, min_size=1).map(lambda v: {"supported_parameters": v}),
        st.dictionaries(st.sampled_from(["web_work_status", "create_time"]), texts, min_size=1),
        st.fixed_dictionaries(
            {"shutdown_date": texts | st.sampled_from(["2027-02-29", "2027-1-1", "20270101"])}
        ),
        st.fixed_dictionaries({"deprecation": texts | st.just("2027-01-01T25:00:00Z")}),
        st.dictionaries(texts, not_texts | bad_texts, min_size=1).map(lambda v: {"metadata": v}),
        st.dictionaries(floods, st.lists(floods, min_size=1), min_size=1).map(
            lambda v: {"metadata": v}
        ),
        st.fixed_dictionaries({"metadata": st.just({str(n): "v" for n in range(17)})}),
        st.dictionaries(texts, texts | values, min_size=1)
        .filter(lambda v: not all(re.fullmatch(r"[0-9.]+", str(price)) for price in v.values()))
        .map(lambda v: {"pricing": v}),
        st.dictionaries(
            st.sampled_from(["input_modalities", "output_modalities"]), not_texts, min_size=1
        )
        .filter(lambda v: not all(isinstance(m, list) for m in v.values()))
        .map(lambda v: {"architecture": v}),
        st.dictionaries(floods, values, min_size=1).map(lambda v: {"architecture": v}),
    )
    keys = st.one_of(
        st.dictionaries(unknown_fields, values, min_size=1),
        st.fixed_dictionaries({"name": not_texts | bad_texts | st.just("")}),
        st.fixed_dictionaries({"scopes": st.lists(texts, max_size=3) | not_texts}),
        st.fixed_dictionaries(
            {"organization": not_texts | bad_texts | st.sampled_from(["*", ""])}
        ),
        st.fixed_dictionaries({"groups": st.lists(not_texts | bad_texts, min_size=1)}),
        st.fixed_dictionaries({"expires_at": not_whole | st.integers(0, 1_700_000_000)}),
        st.dictionaries(
            st.sampled_from(["id", "key", "created", "revoked_at", "digest"]), values, min_size=1
        ),
    )
    graces = st.one_of(
        st.dictionaries(unknown_fields, values, min_size=1),
        st.fixed_dictionaries({"grace": not_whole | st.integers(90 * 24 * 60 * 60 + 1, 2**53)}),
    )


@st.composite
def wrong_shapes(draw, target):
    """A write whose body is a JSON object of a wrong shape."""
    method, path, legal = draw(writes(target))
    if path.startswith("/admin/models"):
        wrong = draw(Wrong.models)
    elif path == "/admin/keys":
        wrong = draw(Wrong.keys)
    else:
        wrong = draw(Wrong.graces)
    return request(
        method,
        path,
        target.authorized,
        JSON,
        body=dumped(legal | wrong),
        expected=422,
        code="validation_error",
    )


def test_bodies_of_a_wrong_shape_are_refused(target):
    """A JSON object of a wrong shape is a 422 that names the field."""
    target.attack(wrong_shapes(target), 1200)


@st.composite
def misspelt_removals(draw, target):
    """A merge patch that removes a field that no entry has."""
    name = draw(Wrong.unknown_fields)
    patch = draw(st.sampled_from([{name: None}, {"architecture": {"x" + name: None}}]))
    return request(
        "PATCH", "/admin/models/kept", target.authorized, JSON, body=dumped(patch), expected=422
    )


def test_a_patch_cannot_remove_an_unknown_field(target):
    """A merge patch with null for an unknown field is a 422 like any other unknown field."""
    target.attack(misspelt_removals(target), 60)


@st.composite
def outsized(draw, target):
    """A legal write in a body that is too long, or is said to be."""
    method, path, legal = draw(writes(target))
    body = dumped(legal)
    if draw(st.booleans()):
        body += b" " * (MAX_BODY + draw(st.integers(1, 2000)) - len(body))
        length = len(body)
    else:
        length = draw(st.integers(MAX_BODY + 1, 10**30))
    return request(
        method,
        path,
        target.authorized,
        JSON,
        (b"Content-Length", b"%d" % length),
        body=body,
        length=False,
        expected=413,
        broken=True,
    )


def test_bodies_that_are_too_long_are_refused(target):
    """A body longer than 64 KiB is a 413, also when it is only said to be."""
    target.attack(outsized(target), 60)


# Framing


@st.composite
def cut_short(draw, target):
    """A write whose body ends before its Content-Length, although what came is legal JSON."""
    method, path, legal = draw(writes(target))
    body = draw(st.just(dumped(legal)) | st.binary(max_size=50))
    return request(
        method,
        path,
        target.authorized,
        JSON,
        (b"Content-Length", b"%d" % draw(st.integers(len(body) + 1, MAX_BODY))),
        body=body,
        length=False,
        expected=400,
        code="invalid_body",
        broken=True,
    )


def test_bodies_that_are_cut_short_are_refused(target):
    """A body shorter than its Content-Length is a 400 invalid_body, even if it is legal JSON."""
    target.attack(cut_short(target), 200)


@st.composite
def bad_chunks(draw, target):
    """A write whose chunks hold legal JSON and are broken somewhere."""
    method, path, legal = draw(writes(target))
    body = dumped(legal)
    size = b"%x" % len(body)
    junk = draw(st.binary(min_size=1, max_size=12).filter(lambda b: b"\r\n" not in b))
    framed = draw(
        st.sampled_from(
            [
                size + b"\r\n" + body,  # no end
                size + b"\r\n" + body + b"\r\n",
                size + b"\r\n" + body + b"\r\n0\r\n",
                size + b"\r\n" + body + b"\r\n0\n\n",
                size + b"\r\n" + body + b"0\r\n\r\n",
                size + b"\n" + body + b"\n0\n\n",
                size + b"\r\n" + body + b"\r\n-1\r\n\r\n",
                b"-" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
                b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
                b"%x" % (len(body) + 1) + b"\r\n" + body + b"\r\n0\r\n\r\n",
                b"%x" % (len(body) - 1) + b"\r\n" + body + b"\r\n0\r\n\r\n",
                b"f" * 40 + b"\r\n" + body + b"\r\n0\r\n\r\n",
                b"\xb2\r\n" + body + b"\r\n0\r\n\r\n",
                size + b";\r\n" + body + b"\r\n0\r\n\r\n",
                size + b';a="\r\n' + body + b"\r\n0\r\n\r\n",
                size + b"\r\n" + body + b"\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
                size + b"\r\n" + body + b"\r\n0\r\nbad trailer\r\n\r\n",
                b"g" + junk + b"\r\n" + body + b"\r\n0\r\n\r\n",
                size + b"\r\n" + body + b"\r\n" + b"z" + junk + b"\r\n\r\n",
                size + b"\r\n" + body + b"!" + junk + b"\r\n0\r\n\r\n",
                body,
                b"",
            ]
        )
    )
    return request(
        method,
        path,
        target.authorized,
        JSON,
        (b"Transfer-Encoding", b"chunked"),
        body=framed,
        length=False,
        expected=400,
        code="invalid_body",
        refusable=True,
        broken=True,
    )


def test_broken_chunks_are_refused(target):
    """A chunked body that is broken anywhere is a 400, even if what came is legal JSON."""
    target.attack(bad_chunks(target), 300)


@st.composite
def bad_framing(draw, target):
    """A legal write whose length nobody can know."""
    method, path, legal = draw(writes(target))
    body = dumped(legal)
    length = b"%d" % len(body)
    headers = draw(
        st.sampled_from(
            [
                [(b"Content-Length", b"-" + length)],
                [(b"Content-Length", b"+" + length)],
                [(b"Content-Length", length + b", " + length)],
                [(b"Content-Length", length), (b"Content-Length", length)],
                [(b"Content-Length", b"0x0a")],
                [(b"Content-Length", b"1e1")],
                [(b"Content-Length", b"\xb2")],
                [(b"Content-Length", b"9" * 5000)],
                [(b"Content-Length", b"")],
                [(b"Content-Length", length), (b"Transfer-Encoding", b"chunked")],
                [(b"Transfer-Encoding", b"chunked, chunked")],
                [(b"Transfer-Encoding", b"chunked, identity")],
                [(b"Transfer-Encoding", b"gzip")],
                [(b"Transfer-Encoding", b"xchunked")],
                [(b"Transfer-Encoding", b"\x0bchunked")],
                [(b"Transfer_Encoding", b"chunked")],
            ]
        )
        | st.text("0123456789abc.,; \t+-", min_size=1, max_size=9)
        .filter(lambda text: not text.strip(" \t").isdigit())
        .map(lambda text: [(b"Content-Length", latin(text))])
    )
    return request(
        method,
        path,
        target.authorized,
        JSON,
        *headers,
        body=body,
        length=False,
        refusable=True,
        broken=True,
    )


def test_unclear_lengths_never_reach_the_application(target):
    """A request whose length is told wrongly, twice or not at all is refused by the parser."""
    target.attack(bad_framing(target), 150)


# Keys


def targets_for_keys(target, *, public):
    """Return requests that a good key would make legal."""
    reads = [("GET", "/v1/models", None), ("GET", "/v1/models/kept", None)]
    reads += [("HEAD", "/v1/models", None), ("GET", "/v1/nowhere", None)]
    reads += [("PUT", "/v1/models", {"id": "new"})]
    administration = [
        ("GET", "/admin/models", None),
        ("GET", "/admin/keys", None),
        ("GET", "/admin/nowhere", None),
        ("DELETE", "/admin/models/kept", None),
        ("DELETE", f"/admin/keys/{target.kid}", None),
    ]
    return st.sampled_from(reads if public else reads + administration) | (
        st.nothing() if public else writes(target)
    )


def with_key(draw, target, headers, *, public=False, **facts):
    method, path, legal = draw(targets_for_keys(target, public=public))
    body = b"" if legal is None else dumped(legal)
    return request(method, path, *headers, JSON, body=body, **facts)


#: Header values as bytes: everything that HTTP lets through.
field_values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF).filter(
        lambda c: c == "\t" or not 0x7F <= ord(c) < 0x80
    ),
    max_size=60,
).map(latin)


@st.composite
def bad_authorization(draw, target):
    """A request whose Authorization is anything but one Bearer token that is good."""
    good = target.admin_key.encode()
    bad = draw(st.sampled_from(target.bad_keys)).encode()
    place = draw(st.integers(0, len(good) - 1))
    other = draw(st.sampled_from("0Zz_ ,;é\xa0\t")).encode("latin-1")
    mistyped = good[:place] + other + good[place + 1 :]
    value = draw(
        st.one_of(
            st.sampled_from(
                [
                    b"Bearer",
                    b"Bearer ,",
                    b"Bearer\xa0" + good,
                    b"Bearer\t" + good,
                    b"Bearer " + good + b"\xa0",
                    b"Bearer " + good + b"\x85",
                    b"\xa0Bearer " + good,
                    b"\xa0",
                    b"Bearer " + good + b",",
                    b"Bearer " + good + b" " + good,
                    b"Bearer " + good + b", Bearer " + good,
                    b"Bearer " + good + good,
                    b'Bearer "' + good + b'"',
                    b"Bearer " + good[:-1],
                    b"Bearer " + good.upper(),
                    b"Bearer " + good.swapcase(),
                    b"Bearer=" + good,
                    b"Bearer: " + good,
                    b"BearerBearer " + good,
                    b"Basic " + good,
                    b"Token " + good,
                    b"Basic Og==",
                    good,
                    b"Bearer " + bad,
                    b"bEARER   " + bad,
                    b"Bearer \xff\xfe",
                    b"Bearer " + "ключ".encode(),
                    b"Bearer " + b"Q" * 4000,
                    b"Bearer sk-proj-" + b"Q" * 40,
                    b"Digest username=" + good,
                ]
            ),
            st.just(b"Bearer " + mistyped).filter(lambda v: v.strip(b" \t") != b"Bearer " + good),
            field_values.filter(lambda value: value.strip(b" \t")),
            field_values.filter(lambda value: value.strip(b" \t")).map(b"Bearer ".__add__),
        )
    )
    return with_key(
        draw, target, [(b"Authorization", value)], expected=401, code="invalid_api_key"
    )


def test_odd_authorization_is_a_bad_key(target):
    """Any Authorization but one Bearer token that is good is a 401, wherever it is sent."""
    target.attack(bad_authorization(target), 500)


@st.composite
def several_keys(draw, target):
    """A request with two Authorization headers, or on public routes with keys that differ."""
    good = b"Bearer " + target.admin_key.encode()
    reader = target.read_key.encode()
    if draw(st.booleans()):
        second = draw(
            st.sampled_from([good, b"", b"Bearer " + reader, b"Basic Og=="]) | field_values
        )
        pair = draw(st.permutations([good, second]))
        return with_key(
            draw,
            target,
            [(b"Authorization", value) for value in pair],
            expected=401,
            code="invalid_api_key",
        )
    name = draw(st.sampled_from([b"X-Api-Key", b"x-goog-api-key", b"API-KEY"]))
    other = draw(
        field_values.filter(lambda value: value.strip(b" \t"))
        | st.sampled_from([reader + b"\xa0", reader + b"," + reader, b"Bearer " + reader])
        | st.sampled_from(target.bad_keys).map(str.encode)
    )
    headers = draw(
        st.sampled_from(
            [
                [(name, other)],
                [(name, reader), (name, reader)],
                [(name, reader), (b"Authorization", good)],
                [(name, other), (b"Authorization", good)],
                [(b"X-Api-Key", reader), (b"Api-Key", target.admin_key.encode())],
            ]
        )
    )
    return with_key(draw, target, headers, public=True, expected=401, code="invalid_api_key")


def test_several_keys_are_a_bad_key(target):
    """Two Authorization headers, or two keys that differ, are a 401, good as each may be."""
    target.attack(several_keys(target), 300)


@st.composite
def writes_without_right(draw, target):
    """A legal write by a reader, or by nobody."""
    method, path, legal = draw(writes(target))
    bearer = (b"Authorization", b"Bearer " + target.read_key.encode())
    elsewhere = (b"X-Api-Key", target.admin_key.encode())
    headers, status = draw(
        st.sampled_from(
            [
                ([], 401),
                ([(b"Authorization", b"")], 401),
                ([(b"Authorization", b" \t ")], 401),
                ([elsewhere], 401),
                ([bearer], 403),
                ([bearer, elsewhere], 403),
            ]
        )
    )
    query = draw(st.sampled_from(["", f"?key={target.admin_key}", "?q=1"]))
    body = dumped(draw(st.just(legal) | st.dictionaries(texts, values, max_size=2)))
    return request(method, path + query, *headers, JSON, body=body, expected=status)


def test_a_write_needs_an_admin_key_in_its_place(target):
    """Without an admin key in Authorization a write is a 401, with a reader's key a 403."""
    target.attack(writes_without_right(target), 150)


# Other headers


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
    target.attack(bad_media(target), 300)


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
    target.attack(bad_preconditions(target), 200)


#: Headers that a reader may send with any value, and what clients and proxies add.
idle_headers = any_of(
    ["Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Origin", "Referer", "Range", "TE"],
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
            ]
        )
    )
    path = draw(st.sampled_from(["/v1/models", "/v1/models/kept", "/healthz", "/"]))
    method = draw(st.sampled_from(["GET", "HEAD"]))
    return request(method, path, *headers, expected=200)


def test_idle_headers_change_nothing(target):
    """A read with any headers that do not concern it is answered."""
    target.attack(idle_reads(target), 300)


@st.composite
def odd_heads(draw, target):
    """A read or a legal write with headers that gunicorn refuses."""
    method, path, legal = draw(writes(target))
    name, value = draw(
        st.sampled_from(
            [
                (b"Expect", b"201-created"),
                (b"SCRIPT_NAME", b"/admin"),
                (b"PATH_INFO", b"/admin/models"),
                (b"X_Forwarded_For", b"127.0.0.1"),
                (b"Content_Length", b"5"),
                (b"Host", b"other"),
                (b"X-Large", b"Q" * 9000),
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
    target.attack(odd_heads(target), 200)


def test_a_request_id_is_taken_only_if_well_formed(target):
    """A well-formed X-Request-ID comes back; for any other there is a fresh one."""
    well_formed = re.compile(rb"[A-Za-z0-9._-]{1,128}")

    @settings(max_examples=300, deadline=None, derandomize=True)
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
        check(sent, answer)
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


# Ids and queries

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
    if path == "/":
        # Werkzeug takes several slashes at the start for one.
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
    target.attack(strange_paths(target), 500)


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


def encoded(text):
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")


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
    plain = st.one_of(
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
    target.attack(bad_queries(target), 400)


@st.composite
def idle_queries(draw):
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
    query = draw(st.sampled_from([query, "&" * 5000, "x=1&" * 1500, "=", "q=%", "q=%zz&&q"]))
    return request("GET", f"{path}?{query}", expected=200)


@pytest.mark.usefixtures("target")
def test_filters_take_any_text(target):
    """Any text may be looked for, and what the public routes do not know they ignore."""
    target.attack(idle_queries(), 300)


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
    target.attack(bad_methods(target), 300)


# What gunicorn's parser refuses, with keys in it


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
                key + b": x",
                key.upper() + b": x",
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
    target.attack(malformed(target), 500)
