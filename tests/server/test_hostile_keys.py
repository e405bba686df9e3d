"""Hostile keys: odd forms, several at once, in the wrong place."""

import pytest
from hypothesis import strategies as st

from tests.server.hostile import JSON, dumped, field_values, request, texts, values, writes

pytestmark = pytest.mark.slow


def targets_for_keys(target, *, public):
    """Return requests that a good key would make legal."""
    reads = [("GET", "/v1/models", None), ("GET", "/v1/models/kept", None)]
    reads += [("HEAD", "/v1/models", None), ("GET", "/v1/nowhere", None)]
    reads += [("PUT", "/v1/models", {"id": "new"})]
    administration = [
        ("GET", "/admin/models", None),
        ("GET", "/admin/keys", None),
        ("GET", "/admin/sources", None),
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
    target.attack(bad_authorization(target), 750)


@st.composite
def several_keys(draw, target):
    """A request with two Authorization headers, or on public routes with no key or two."""
    good = b"Bearer " + target.admin_key.encode()
    bad = b"Bearer " + draw(st.sampled_from(target.bad_keys)).encode()
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
                [(name, other), (b"Authorization", bad)],
                [(b"X-Api-Key", reader), (b"Api-Key", target.admin_key.encode())],
            ]
        )
    )
    return with_key(draw, target, headers, public=True, expected=401, code="invalid_api_key")


def test_several_keys_are_a_bad_key(target):
    """Two Authorization headers are a 401, and two good keys that differ, and two bad ones."""
    target.attack(several_keys(target), 450)


@st.composite
def one_good_key(draw, target):
    """A read with a good key and, in other headers, whatever is none."""
    names = draw(st.permutations([b"Authorization", b"X-Api-Key", b"API-KEY", b"x-goog-api-key"]))
    reader = target.read_key.encode()
    scheme = b"Bearer " if names[0] == b"Authorization" else b""
    values = field_values | st.sampled_from(target.bad_keys).map(str.encode)
    values = values.filter(lambda value: b"," not in value)
    others = [(name, draw(values)) for name in names[1 : draw(st.integers(2, 4))]]
    method, path = draw(
        st.sampled_from(
            [("GET", "/v1/models"), ("HEAD", "/v1/models"), ("GET", "/v1/models/kept")]
        )
    )
    headers = draw(st.permutations([(names[0], scheme + reader), *others]))
    return request(method, path, *headers, expected=200)


def test_one_good_key_counts(target):
    """On a public route a good key counts, whatever else looks like a credential."""
    target.attack(one_good_key(target), 300)


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
                ([(b"Authorization", b"Bearer")], 401),
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
    target.attack(writes_without_right(target), 200)
