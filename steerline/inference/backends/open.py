"""From a spec to the backend that it describes."""

from __future__ import annotations

from steerline.config.inference import BackendSpec, LocalBackendSpec, NoisyBackendSpec, ServedBackendSpec
from steerline.errors import InferenceError
from steerline.inference.backends.noisy import NoisyBackend
from steerline.inference.backends.openai import OpenAIBackend
from steerline.inference.request import StreamingBackend


def open_backend(spec: BackendSpec | ServedBackendSpec) -> StreamingBackend:
    """A backend that is ready to answer. A local model is loaded first, which takes a while.

    Raises:
        InferenceError: a key is missing, a model cannot write text, or only an endpoint has it.
        ModelError: a model cannot be loaded.
    """
    if isinstance(spec, LocalBackendSpec):
        from steerline.inference.backends.local import LocalBackend

        return LocalBackend.open(spec)
    if isinstance(spec, ServedBackendSpec):
        raise InferenceError(
            "only an endpoint answers for a served model",
            got=spec.name,
            fix="name a backend: `local`, or `openai` with the endpoint's address",
        )
    if isinstance(spec, NoisyBackendSpec):
        return NoisyBackend(spec)
    return OpenAIBackend(spec)
