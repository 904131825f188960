"""What answers prompts: a model in this process, vLLM, or a server."""
