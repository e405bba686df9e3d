"""What the refusal of a wrong URL adds: where the list is, or that Roster does nothing else."""

import re

#: By the last segment of a path that no route has, the list that was probably wanted.
_LISTS = {
    **dict.fromkeys(("models", "model", "engines", "v1", "openai"), "/v1/models"),
    "v1beta": "/v1beta/models",
    **dict.fromkeys(("tags", "api"), "/api/tags"),
}

#: Segments, and the verbs of Gemini behind a colon, of requests that need a model to run.
_RUN = re.compile(
    r"[/:](audio|chat|complete|completions|embed|embeddings|generate|images|messages|moderations"
    r"|realtime|rerank|responses|(batchE|e)mbedContents?|(g|streamG)enerateContent|countTokens)"
    r"(/|$)"
)


def hint_at(path: str, status: int, method: str) -> str:
    """Return a sentence for the 404 or 405 at a public URL, empty if there is none."""
    path = path.rstrip("/")
    listing = _LISTS.get(path.rpartition("/")[2].lower())
    is_unknown = status == 404  # noqa: PLR2004
    if is_unknown and listing is not None:
        if path.endswith("/v1beta/models"):
            listing = "/v1beta/models"
        return f"The list of models is at {listing}: check the base URL of the client."
    if (is_unknown or method == "POST") and _RUN.search(path):
        return (
            "Roster only lists models, at /v1/models: "
            "send this request to a gateway or a model server."
        )
    return ""


def hint_on(model_id: str) -> str:
    """Return a sentence for the 404 of a model: the URL of the list may be the base URL."""
    is_list = model_id in ("models", "v1/models", "v1beta/models")
    return hint_at(f"/{model_id}", 404, "GET") if is_list else ""
