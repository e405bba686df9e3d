"""Hostile bodies: not JSON, of a wrong shape, too long, cut short, badly framed."""

import re
from typing import ClassVar

import pytest
from hypothesis import strategies as st

from app.fields import PRICES
from tests.server.hostile import (
    JSON,
    KEY_FIELDS,
    MAX_BODY,
    MODEL_FIELDS,
    PERMISSION_FIELDS,
    any_of,
    bad_texts,
    dumped,
    floods,
    latin,
    not_flags,
    not_texts,
    not_whole,
    request,
    texts,
    values,
    writes,
)

pytestmark = pytest.mark.slow

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
    target.attack(not_json(target), 1300)


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
        "type",
        "knowledge_cutoff",
        "work_name",
        "work_video_path",
        "wm_work_video_path",
        "no_wm_work_video_path",
        "work_webp_path",
    ]
    whole_fields: ClassVar = [
        "created",
        "context_length",
        "context_window",
        "max_input_tokens",
        "max_output_tokens",
        "available_from",
    ]
    list_fields: ClassVar = [
        "supported_parameters",
        "permission",
        "aliases",
        "tags",
        "input_modalities",
    ]

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
        st.dictionaries(st.sampled_from(PRICES), texts | values, min_size=1)
        .filter(lambda v: not all(re.fullmatch(r"[0-9.]+", str(price)) for price in v.values()))
        .map(lambda v: {"pricing": v}),
        st.dictionaries(texts, not_texts | bad_texts, min_size=1).map(lambda v: {"pricing": v}),
        st.lists(bad_ids, min_size=1).map(lambda v: {"aliases": v}),
        st.dictionaries(floods, values, min_size=1).map(lambda v: {"reasoning": v}),
        st.fixed_dictionaries({"meta": st.fixed_dictionaries({"n_ctx": not_whole})}),
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
    target.attack(wrong_shapes(target), 1700)


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
    target.attack(cut_short(target), 300)


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
    target.attack(bad_chunks(target), 400)


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
    target.attack(bad_framing(target), 250)
