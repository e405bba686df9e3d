"""Identifiers: which texts can be the id of a model, and random ids for the rest."""

import re
import secrets
import string

#: The alphabet of base 62, least digit first.
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

_PRINTABLE = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?", re.ASCII)
_UNFETCHABLE = re.compile(r"[?#%\\]")


def random_base62(length: int) -> str:
    """Return `length` random characters, from the operating system's generator."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def problem_with_id(model_id: str) -> str | None:
    """Return the reason why `model_id` cannot be the id of a model, as a sentence, or None."""
    if not _PRINTABLE.fullmatch(model_id):
        return "Must be 1 to 256 printable ASCII characters, with no space at either end."
    if _UNFETCHABLE.search(model_id):
        return "Must not contain any of ? # % \\: not every client could fetch it."
    if not {"", ".", ".."}.isdisjoint(model_id.split("/")):
        return "Must not have an empty, '.' or '..' segment between slashes."
    if model_id.startswith("models/"):
        return "Must not begin with 'models/': Gemini clients add and strip that prefix."
    return None
