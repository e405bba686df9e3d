"""Which models langchain-ollama finds when it checks them; run by the interpreter that has it.

Its arguments are an address and ids. It prints a list of the ids that it finds.
"""

import json
import sys

from langchain_ollama import ChatOllama


def finds(url, model_id):
    """Return whether it accepts a model, which it looks up in the list."""
    try:
        ChatOllama(model=model_id, base_url=url, validate_model_on_init=True)
    except ValueError as error:
        if f"Model `{model_id}` not found in Ollama" not in str(error):
            raise
        return False
    return True


url, *ids = sys.argv[1:]
json.dump([model_id for model_id in ids if finds(url, model_id)], sys.stdout)
