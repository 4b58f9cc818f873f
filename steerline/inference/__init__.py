"""Asking language models for text: requests, the client that batches them, and the backends that answer."""
