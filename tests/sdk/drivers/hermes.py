"""What hermes-agent knows of models; run by the interpreter that has it.

Its arguments are an address, a key and ids. It prints an object with what it found, by id:
lengths in tokens, the prices of prompt, output and cached prompt in USD per million tokens, and
whether images may be sent.
"""

import json
import sys

from agent import model_metadata, usage_pricing


def prices_of(entry):
    """Return its prices as numbers."""
    found = (
        entry.input_cost_per_million,
        entry.output_cost_per_million,
        entry.cache_read_cost_per_million,
    )
    return [None if price is None else float(price) for price in found]


def about(model_id, listed, base, key):
    """Return what it knows of a model, from the lists and replies that it asks for."""
    entry = usage_pricing.get_pricing_entry(
        model_id, provider="custom", base_url=base, api_key=key
    )
    return {
        "context": listed.get("context_length"),
        "output": listed.get("max_completion_tokens"),
        "prices": entry and prices_of(entry),
        # An Anthropic endpoint has the longest prompt alone.
        "prompt": model_metadata._query_anthropic_context_length(model_id, base, key),
        # OpenAI's list says nothing of images to it; Ollama's replies do.
        "ollama context": model_metadata.query_ollama_num_ctx(model_id, base, api_key=key),
        "images": model_metadata.query_ollama_supports_vision(model_id, base, api_key=key),
    }


url, key, *ids = sys.argv[1:]
base = f"{url}/v1"
found = model_metadata.fetch_endpoint_model_metadata(base, key, force_refresh=True)
json.dump({i: about(i, found[i], base, key) for i in ids}, sys.stdout)
