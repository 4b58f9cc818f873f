"""Models behind the interface of OpenAI."""
