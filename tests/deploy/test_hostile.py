"""The hostile requests of ``tests/server`` once more, through the shipped site.

nginx refuses some of them by itself, and the application would have refused those too. Others it
repairs: it drops a malformed header and puts chunks in order, and so a write may arrive that is a
legal one. Such writes are sent with a key that is nobody's, and the application must say so.
"""

import json
import re
from dataclasses import replace
from http.client import BadStatusLine

import pytest

from tests.server import test_hostile_bodies as bodies
from tests.server import test_hostile_headers as headers
from tests.server import test_hostile_keys as keys_
from tests.server import test_hostile_parser as parser
from tests.server import test_hostile_urls as urls
from tests.server import test_hostile_wire as wire_
from tests.server.hostile import Target, Wire, check_own, repeated

pytestmark = pytest.mark.needs("nginx", "nginx")

#: How many are sent of each kind.
NUMBERS = {
    bodies.not_json: 1050,
    bodies.wrong_shapes: 1750,
    bodies.misspelt_removals: 60,
    bodies.outsized: 120,
    bodies.bad_framing: 600,
    headers.bad_media: 390,
    headers.bad_preconditions: 360,
    headers.idle_reads: 390,
    headers.odd_heads: 600,
    keys_.bad_authorization: 750,
    keys_.several_keys: 450,
    keys_.one_good_key: 300,
    keys_.writes_without_right: 210,
    parser.malformed: 1200,
    urls.strange_paths: 810,
    urls.strange_creations: 20,
    urls.bad_queries: 540,
    urls.idle_queries: 390,
    urls.bad_methods: 390,
}
#: What the application says where nginx repaired such a request.
REPAIRED = {
    bodies.bad_framing: {400},  # no length was left, and nothing is no JSON
    headers.odd_heads: {401},
    parser.malformed: {200, 401, 403, 404, 405, 415},
}
#: Chunks that nginx puts in order: with line feeds alone, an extension or a trailer.
IN_ORDER = re.compile(rb"\r\n\r\n[0-9a-f]+(;[^\r\n]*)?\r?\n\{.*\}\r?\n0\r?\n([^\r\n]+\r?\n)*\r?\n")
#: A request of HTTP/0.9, whose answer has no head.
HEADLESS = re.compile(rb"GET [^\r\n ]+\r\n")


class Pane(Wire):
    """A connection to nginx; None comes back where it closes without an answer that has a head."""

    def send(self, sent):
        try:
            return super().send(sent)
        except (BadStatusLine, ConnectionResetError):
            self.close()
            return None


def check(sent, answer):
    """Fail unless `answer` to `sent` is nginx's refusal or what the contract allows."""
    if answer is None:
        assert HEADLESS.match(sent.raw)
    elif answer.status != 200 and refused(sent, answer):
        check_refusal(sent, answer)
    else:
        check_own(sent, answer)


def refused(sent, answer):
    """Tell whether a parser, nginx's or gunicorn's, and no view gave this answer."""
    if sent.raw.startswith(b"HEAD "):
        return answer.status == 400
    error = json.loads(answer.body)["error"]
    # As OpenAI has it, and as Gemini.
    return error["code"] in ("invalid_request", 400, 414, 431, 501)


def check_refusal(sent, answer):
    """Fail unless a parser may have refused `sent`, in our envelope and without repeating it."""
    assert sent.refusable or 200 not in sent.expected or doubled(sent)
    # 501 is for a transfer coding that is not known (RFC 9112, section 6.1).
    unknown_coding = b"transfer-encoding:" in sent.raw.lower()
    assert answer.status in ({400, 414, 431, 501} if unknown_coding else {400, 414, 431})
    assert answer.headers["x-request-id"] == answer.headers["request-id"] is not None
    assert "nosniff" == answer.headers["X-Content-Type-Options"]
    assert "application/json" == answer.headers["Content-Type"]
    if not sent.raw.startswith(b"HEAD "):
        assert 0 == repeated(json.loads(answer.body)["error"]["message"], [sent.raw])


def doubled(sent):
    """Tell whether some header is there twice; several, nginx takes but once."""
    head = sent.raw.partition(b"\r\n\r\n")[0].lower()
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")]
    return len(names) > len(set(names))


@pytest.fixture(scope="module")
def keys():
    """Every key that was ever sent."""
    return set()


@pytest.fixture
def attacked(gunicorn, direct, nginx, keys, tmp_path):
    """Make a target whose wires lead through nginx, and whose logs are nginx's too."""
    site = nginx(gunicorn / "s", changes={" buffer=32k flush=1s": ""})
    direct.logs = [gunicorn / "out", gunicorn / "err"]
    direct.logs += [tmp_path / name for name in ("log", "errors", "refusals")]
    wires = []

    def attacked(check, *, half_closes):
        wires.extend(Pane(site.port, half_closes=half_closes) for _ in range(4))
        return Target(direct, wires, keys, check)

    yield attacked
    for wire in wires:
        wire.close()


def disarmed(sent, target, expected):
    """Return `sent` with a key that is nobody's in the place of the administrator's."""
    key = target.bad_keys[-1].encode()
    raw = sent.raw.replace(target.admin_key.encode(), key)
    return replace(sent, raw=raw, expected=expected, code=None)


@pytest.mark.parametrize("attack", NUMBERS, ids=lambda attack: attack.__name__)
def test_nothing_gets_past_nginx(attacked, attack):
    """Each is refused by nginx or by the application; nothing changes, and no log has a key."""
    target = attacked(check, half_closes=False)
    requests = attack(target)
    if expected := REPAIRED.get(attack):
        armed = attack is bodies.bad_framing
        requests = requests.map(
            lambda sent: (
                replace(sent, expected=expected)
                if armed or sent.raw.startswith(b"GET ")
                else disarmed(sent, target, expected)
            )
        )
    if attack is keys_.several_keys:
        # Of two keys in one header the site lets the first through: the cache saw no other.
        requests = requests.filter(lambda sent: b"Authorization:" in sent.raw or not doubled(sent))
    target.attack(requests, NUMBERS[attack])


def check_abandoned(sent, answer):
    """Fail unless a request that its sender gives up is refused, or not answered at all."""
    if answer is not None:
        check(sent, answer)


def test_bodies_that_are_cut_short_change_nothing(attacked):
    """A write whose sender is gone before its end is dropped, although what came is legal."""
    target = attacked(check_abandoned, half_closes=True)
    target.attack(bodies.cut_short(target), 60)


def test_broken_chunks_are_refused_or_put_in_order(attacked):
    """Chunks that nginx cannot put in order are refused, although what they hold is legal."""
    target = attacked(check_abandoned, half_closes=True)

    def tame(sent):
        return disarmed(sent, target, {401}) if IN_ORDER.search(sent.raw) else sent

    target.attack(bodies.bad_chunks(target).map(tame), 200)


def check_odd(sent, answer):
    """Fail unless an odd request is answered in our words, or never was a request to nginx."""
    if answer is None:
        assert HEADLESS.match(sent.raw), sent.raw
    else:
        wire_.check_ours(sent, answer)


def test_odd_requests_are_answered_as_any_other(attacked):
    """nginx's answers to them are in our envelopes, and no log of either has a key."""
    target = attacked(check_odd, half_closes=False)
    target.attack(wire_.odd_requests(target), 1500)
