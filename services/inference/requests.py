"""What clients send to the OpenAI-compatible endpoints. A field that is not here is refused by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from steerline.config.base import Spec
from steerline.config.steering import SteeringSpec

# A bound of any kind has a text checked to be one: JSON can spell half of a surrogate pair.
Text = Annotated[str, Field(min_length=0)]
Zero = Annotated[float, Field(ge=0, le=0)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Strength = Annotated[float, Field(ge=0)]


class Body(Spec):
    """A piece of a request: what `Spec` is, and nothing is converted, so that `"1"` is no number."""

    model_config = ConfigDict(strict=True)


class TextPart(Body):
    """A piece of a message. Text is the only kind."""

    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(min_length=1)]


class FunctionCall(Body):
    """A function and what it is called with."""

    name: Text
    arguments: Text
    """A JSON object, as text."""
    parsed_arguments: Any = None
    """What OpenAI's client makes of them and sends back; not read."""


class ToolCall(Body):
    """A call that the assistant asked for."""

    id: Text
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None
    """Its place in the stream that it comes from; not read."""


class SystemMessage(Body):
    """What the assistant is told beforehand."""

    role: Literal["system", "developer"]
    content: Content
    name: Text | None = None


class UserMessage(Body):
    """What somebody said."""

    role: Literal["user"]
    content: Content
    name: Text | None = None


class AssistantMessage(Body):
    """What the assistant said, or the calls that it asked for."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None
    name: Text | None = None
    # What else stands in an answer, which clients send back as a message.
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    parsed: Any = None
    """What OpenAI's client makes of the content; not read."""


class ToolMessage(Body):
    """What a function gave back."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Text
    """Which call it answers."""
    name: Text | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Body):
    """A function that the assistant may ask to be called."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments, an object; none takes any object."""
    strict: bool | None = None
    """Accepted and not needed: where an answer can be held to a schema, it is."""


class Tool(Body):
    """A tool. Functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """Which function."""

    name: Text


class NamedTool(Body):
    """The function that has to be called."""

    type: Literal["function"]
    function: FunctionName


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """Some JSON object."""

    type: Literal["json_object"]


class JsonSchema(Body):
    """A form that an answer keeps."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    """JSON schema. References lead inside it."""
    strict: bool | None = None


class JsonSchemaFormat(Body):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StreamOptions(Body):
    """What a stream shows."""

    include_usage: bool | None = None
    """A last piece with the tokens that were used."""
    include_obfuscation: bool | None = None
    """Accepted, without effect: pieces are as long as what they say."""


class TeamView(Body):
    """What is shown of a team while it works."""

    agents: bool = False
    """Pieces of a stream with what each agent says, in their field `x_steerline`."""


class _Asked(Body):
    """What chats and completions have in common. `null` stands for a field's default."""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model, as `GET /v1/models` lists them."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the likeliest token each time; the default is 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw from the likeliest tokens that hold this much probability together; the default is 1."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest continuation in tokens."""
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    """Texts that end a continuation and are no part of it."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """Of the draws; none takes a new one each time."""
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    """Answers to write, each with draws of its own."""
    stream: bool | None = None
    """Send the answer while it is written, as server-sent events."""
    stream_options: StreamOptions | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    user: Text | None = None
    """Accepted and not kept."""
    steering: SteeringSpec | Strength | None = None
    """An extension: what acts inside the model for this request. A number is the strength of InfoSteer's boost with its
    own settings; 0 is the plain model."""


class ChatCompletionRequest(_Asked):
    """A conversation to answer."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    """Report how likely each token of the answer was."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Report this many of the likeliest tokens at each place."""
    response_format: ResponseFormat | None = None
    """The form that the answer keeps."""
    tools: Annotated[list[Tool], Field(max_length=64)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    """Whether a function is to be called; with `auto` the model decides."""
    parallel_tool_calls: bool | None = None
    """Accepted; an answer never asks for more than one call."""
    modalities: Annotated[list[Literal["text"]], Field(min_length=1)] | None = None
    # A client's books with OpenAI. No answer depends on them.
    metadata: dict[str, Text] | None = None
    """Accepted and not kept."""
    store: bool | None = None
    """Accepted; nothing is stored."""
    service_tier: Text | None = None
    """Accepted; there is one."""
    safety_identifier: Text | None = None
    """Accepted and not kept."""
    prompt_cache_key: Text | None = None
    """Accepted, without effect: beginnings of prompts are shared by all."""
    prompt_cache_retention: Text | None = None
    """Accepted, without effect."""
    x_steerline: TeamView | None = None
    """An extension, for models `team:<name>`."""


class CompletionRequest(_Asked):
    """A text to continue as it stands."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=32)]
    """One text, or several, each of which has its answers."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest continuation in tokens; the default is 16."""
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    """Report how likely each token was, and this many of the likeliest at each place."""
    echo: Literal[False] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None
