"""A larger model behind an OpenAI-compatible endpoint: asked with care for keys, costs and addresses."""
