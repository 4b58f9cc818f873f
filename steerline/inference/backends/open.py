"""From a spec to the backend that it describes."""

from __future__ import annotations

from steerline.config.inference import BackendSpec, LocalBackendSpec, NoisyBackendSpec
from steerline.inference.backends.noisy import NoisyBackend
from steerline.inference.backends.openai import OpenAIBackend
from steerline.inference.request import Backend


def open_backend(spec: BackendSpec) -> Backend:
    """A backend that is ready to answer. A local model is loaded first, which takes a while.

    Raises:
        InferenceError: a key is missing, or a model cannot write text.
        ModelError: a model cannot be loaded.
    """
    if isinstance(spec, LocalBackendSpec):
        from steerline.inference.backends.local import LocalBackend

        return LocalBackend.open(spec)
    if isinstance(spec, NoisyBackendSpec):
        return NoisyBackend(spec)
    return OpenAIBackend(spec)
