"""API keys: their form, their checksum, their state."""

import hashlib
import re
import string

import pytest

from app.catalog.keys import STATES, ApiKey, describe, digest, mask, mint, parse_kid
from app.catalog.visibility import Viewer

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def checksum(text: str) -> str:
    """Return the CRC-32 of `text`, computed bit by bit, as six base62 characters."""
    crc = 0xFFFFFFFF
    for byte in text.encode():
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return "".join(ALPHABET[crc // 62**index % 62] for index in range(5, -1, -1))


BODY = "ro_7fGh2kLm_" + "0123456789ABCDEFGHIJKLMNOPQRSTUV"
KEY = BODY + checksum(BODY)


def test_minted() -> None:
    """A minted key has the form of the contract and its own kid and checksum."""
    key = mint()

    assert re.fullmatch(r"ro_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", key)
    assert checksum(key[:-6]) == key[-6:]
    assert key[3:11] == parse_kid(key)


def test_minted_differ() -> None:
    """No two keys share kid or secret."""
    keys = [mint() for _ in range(50)]

    assert 50 == len({key[3:11] for key in keys}) == len({key[12:44] for key in keys})


def test_worked_example() -> None:
    """The checksum is the CRC-32 of all before it, in base62, zero-padded."""
    padded = next(
        body
        for body in (f"ro_{n:08}_{'a' * 32}" for n in range(10_000))
        if checksum(body).startswith("00")
    )

    assert "cbf43926" == f"{int_of(checksum('123456789')):x}"  # the check value of CRC-32
    assert "7fGh2kLm" == parse_kid(KEY)
    assert padded[3:11] == parse_kid(padded + checksum(padded))


def int_of(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 62 + ALPHABET.index(digit)
    return number


@pytest.mark.parametrize("index", range(len(KEY)))
def test_mistyped(index: int) -> None:
    """A key with any one character changed is refused."""
    others = (set(ALPHABET) | set("_- é\n")) - {KEY[index]}

    assert {None} == {parse_kid(KEY[:index] + c + KEY[index + 1 :]) for c in others}


@pytest.mark.parametrize(
    "text",
    ["", "ro_", KEY[:-1], KEY[1:], KEY + "0", KEY + "\n", " " + KEY, KEY.upper(), KEY[:12] * 4],
)
def test_malformed(text: str) -> None:
    """Anything longer, shorter or else is refused."""
    assert parse_kid(text) is None


def test_described() -> None:
    """The row of a key has its kid and the SHA-256 of the whole key, and never the key."""
    row = describe(KEY, name="billing", organization="acme", groups=("red",), created=5)

    assert "7fGh2kLm" == row.kid
    assert hashlib.sha256(KEY.encode()).hexdigest() == row.digest == digest(KEY)
    assert Viewer("acme", frozenset({"red"})) == row.viewer
    assert ("read",) == row.scopes
    assert row.digest not in repr(row)


def test_default_viewer() -> None:
    """A key without organization and groups sees what everybody sees."""
    assert Viewer() == describe(KEY, name="x", created=5).viewer


@pytest.mark.parametrize(
    ("expires_at", "retires_at", "revoked_at", "now", "state"),
    [
        (None, None, None, 2**32, "active"),
        (100, None, None, 99.999, "active"),
        (100, None, None, 100, "expired"),
        (100, None, None, 100.001, "expired"),
        (None, 100, None, 99.999, "grace"),
        (100, 200, None, 99.999, "grace"),
        (None, 100, None, 100, "expired"),
        (100, 200, None, 100, "expired"),
        (None, None, 50, 50, "revoked"),
        (None, None, 50, 0, "revoked"),
        (100, 100, 50, 200, "revoked"),
        (None, 100, 50, 60, "revoked"),
    ],
)
def test_state(
    expires_at: int | None,
    retires_at: int | None,
    revoked_at: int | None,
    *,
    now: float,
    state: str,
) -> None:
    """A key is refused from the very second of its end, and once revoked, for ever."""
    key = ApiKey(
        kid="x",
        digest="",
        name="x",
        created=0,
        expires_at=expires_at,
        retires_at=retires_at,
        revoked_at=revoked_at,
    )

    assert state == key.state(now)
    assert state in STATES
    assert (state in ("active", "grace")) == key.is_accepted(now)


@pytest.mark.parametrize(
    ("presented", "shown"),
    [
        (KEY, "ro_7***"),
        ("2f68dbbf-519d-4f01", "2f68***"),
        ("a" * 12, "aaaa***"),
        ("a" * 11, "***"),
        ("", "***"),
        ("a\x1bbc" + "d" * 20, "***"),
        ("äbcd" + "d" * 20, "***"),
        ("abcdé" + "d" * 20, "abcd***"),
    ],
)
def test_mask(presented: str, shown: str) -> None:
    """Of a presented key four characters are shown, of a short or unprintable one none."""
    assert shown == mask(presented)
