"""The example of ``docs/list-models.md``, the reply that was asked for."""

import json
from pathlib import Path

_PAGE = (Path(__file__).parents[1] / "docs" / "list-models.md").read_text()
_EXAMPLE = _PAGE.partition("\nExample\n")[2]
#: The whole reply, and the one entry in it.
REFERENCE = json.loads(_EXAMPLE[_EXAMPLE.index("{") : _EXAMPLE.rindex("}") + 1])
[REFERENCE_ENTRY] = REFERENCE["data"]
