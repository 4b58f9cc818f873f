"""Calls of functions: what a model is told, the schema that holds its answer, and how the answer is read.

A call is one JSON object, `{"name": ..., "arguments": {...}}`. Where it is required, the answer is held to a schema
of it; where the model decides (`auto`), an answer that is such an object and nothing else is a call.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.http.errors import ApiError
from services.inference.requests import ChatCompletionRequest, Function, NamedTool
from services.inference.responses import Call, CalledFunction
from services.inference.schemas import check, rebased

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Calling:
    """The functions of a request, and whether one has to be called."""

    functions: Sequence[Function]
    required: bool

    @property
    def schema(self) -> dict[str, Any] | None:
        """Of the answer; none where it may be text."""
        if not self.required:
            return None
        calls = [_call_schema(function.name) for function in self.functions]
        parameters = {
            function.name: rebased(function.parameters or _ANY_OBJECT, f"#/$defs/{function.name}")
            for function in self.functions
        }
        return {"$defs": parameters, **(calls[0] if len(calls) == 1 else {"anyOf": calls})}

    @property
    def instruction(self) -> str:
        """What the model is told."""
        lines = [json.dumps(_described(function), sort_keys=True) for function in self.functions]
        asked = "Call one of them" if self.required else "To call one of them"
        return "\n".join(
            [
                "These functions can be called, each described by a line of JSON:",
                *lines,
                f'{asked}: answer with {{"name": "...", "arguments": {{...}}}} and nothing else.',
            ]
        )

    def read(self, text: str) -> Call | None:
        """The call that an answer is; none where it is none."""
        try:
            found = json.loads(text)
            if not isinstance(found, dict) or not isinstance(found.get("arguments"), dict):
                return None
            arguments = json.dumps(found["arguments"], ensure_ascii=False, allow_nan=False)
            arguments.encode()  # half of a surrogate pair cannot be sent
        except (ValueError, RecursionError):
            return None
        name = found.get("name")
        if all(name != function.name for function in self.functions):
            return None
        return Call(id=f"call_{uuid.uuid4().hex}", function=CalledFunction(name=str(name), arguments=arguments))


def calling(request: ChatCompletionRequest) -> Calling | None:
    """How a request's functions are to be called; none where none may be.

    Raises:
        ApiError: 400; the choice names no tool of the request, or a schema cannot be kept.
    """
    functions = [tool.function for tool in request.tools or ()]
    choice = request.tool_choice
    if not functions:
        if choice not in (None, "none", "auto"):
            raise ApiError(400, "invalid_request", "a tool is to be called, and there are no tools", param="tools")
        return None
    if choice == "none":
        return None
    check(
        {
            f"tools.{place}.function.parameters": function.parameters or _ANY_OBJECT
            for place, function in enumerate(functions)
        }
    )
    if isinstance(choice, NamedTool):
        named = [function for function in functions if function.name == choice.function.name]
        if not named:
            known = ", ".join(function.name for function in functions)
            raise ApiError(
                400,
                "invalid_request",
                f"there is no tool {choice.function.name}; expected: {known}",
                param="tool_choice.function.name",
            )
        return Calling(named[:1], required=True)
    return Calling(functions, required=choice == "required")


def _described(function: Function) -> Mapping[str, Any]:
    parameters = function.parameters or _ANY_OBJECT
    return {"name": function.name, "description": function.description or "", "parameters": parameters}


def _call_schema(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{name}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
