"""What any-llm lists without a key; run by the interpreter that has it.

Its arguments are an address and providers. It prints an object with the ids of each provider.
"""

import json
import sys

import any_llm

url, *providers = sys.argv[1:]
json.dump(
    {
        provider: [
            model.id
            # Ollama's provider asks below /api.
            for model in any_llm.list_models(
                provider, api_base=url if provider == "ollama" else f"{url}/v1"
            )
        ]
        for provider in providers
    },
    sys.stdout,
)
