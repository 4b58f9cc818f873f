"""The game of `simulation_turns` in other frameworks, for an interpreter that has one of them and nothing of ours.

    python -m benchmarks.turns_elsewhere autogen --simulations 16 --agents 64 --ticks 5

Prints agent turns a second as JSON. Every framework plays public goods as its guides have it: an agent of its own for
each player, all players of a round asked at once, all games side by side, the same fake server, and no more than that:
no log, no journal. What they contributed is checked against a plain loop.
"""

import argparse
import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.fake_server import RULES, Server, answer

_QUESTION = re.compile(r"Game \d+, round \d+, player \d+, mean [\d.]+\.")

AskAll = Callable[[Sequence[str]], Awaitable[Sequence[str]]]


def question(game: int, tick: int, player: int, mean: float) -> str:
    """What a player is asked."""
    return f"Game {game}, round {tick}, player {player}, mean {mean:.3f}. {RULES}"


def says(prompt: str) -> str:
    """What the model says to the question, whatever a framework puts around it."""
    return answer(_QUESTION.findall(prompt)[-1])


async def played(game: int, agents: int, ticks: int, ask_all: AskAll) -> list[list[int]]:
    """A game; what each player put into the pot, round by round."""
    mean, given = 0.0, list[list[int]]()
    for tick in range(ticks):
        texts = await ask_all([question(game, tick, player, mean) for player in range(agents)])
        given.append([int(text.rpartition("ANSWER: ")[2].split()[0]) for text in texts])
        mean = sum(given[-1]) / agents
    return given


Make = Callable[[int], Awaitable[AskAll]]
"""Makes the players of a game, so many of them."""


@dataclass
class Asked:
    prompt: str


@dataclass
class Said:
    text: str


async def autogen(server: Server) -> Make:
    """AutoGen's core runtime: a routed agent for each player, asked by message."""
    from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

    class Player(RoutedAgent):
        @message_handler
        async def asked(self, message: Asked, ctx: MessageContext) -> Said:  # noqa: ARG002  the decorator reads it
            return Said(await server.ask(message.prompt))

    async def make(_: int) -> AskAll:
        runtime = SingleThreadedAgentRuntime()
        await Player.register(runtime, "player", lambda: Player("a player"))
        runtime.start()

        async def ask_all(prompts: Sequence[str]) -> list[str]:
            sent = (runtime.send_message(Asked(p), AgentId("player", str(n))) for n, p in enumerate(prompts))
            return [said.text for said in await asyncio.gather(*sent)]

        return ask_all

    return make


async def agentscope(server: Server) -> Make:
    """AgentScope: an agent for each player, which replies to a message and remembers it."""
    from agentscope.agent import Agent
    from agentscope.credential import CredentialBase
    from agentscope.formatter import OpenAIChatFormatter
    from agentscope.message import TextBlock, UserMsg
    from agentscope.model import ChatModelBase, ChatResponse

    class Fake(ChatModelBase):
        formatter = OpenAIChatFormatter()

        async def _call_api(self, _: str, messages: Sequence[Any], *__: Any, **___: Any) -> Any:
            prompt = "\n".join(message.get_text_content() or "" for message in messages)
            return ChatResponse(content=[TextBlock(type="text", text=await server.ask(prompt))], is_last=True)

    model = Fake(CredentialBase(), "fake", Fake.Parameters(), stream=False, context_size=10_000_000)

    async def make(agents: int) -> AskAll:
        players = [Agent(f"player{n}", "You play a game.", model) for n in range(agents)]

        async def ask_all(prompts: Sequence[str]) -> list[str]:
            asked = (player.reply(UserMsg("game", p)) for player, p in zip(players, prompts, strict=True))
            return [reply.get_text_content() for reply in await asyncio.gather(*asked)]

        return ask_all

    return make


async def mesa_llm(server: Server) -> Make:
    """Mesa-LLM: an LLM agent for each player, all of a model stepped in parallel."""
    os.environ["OPENAI_API_KEY"] = "none"
    import mesa_llm.module_llm as module
    from mesa import Model
    from mesa_llm.llm_agent import LLMAgent
    from mesa_llm.memory.st_memory import ShortTermMemory
    from mesa_llm.parallel_stepping import step_agents_parallel
    from mesa_llm.reasoning.cot import CoTReasoning

    async def completion(messages: Sequence[dict[str, str]], **_: Any) -> Any:
        said = SimpleNamespace(content=await server.ask(messages[-1]["content"]))
        return SimpleNamespace(choices=[SimpleNamespace(message=said)])

    module.acompletion = completion

    class Player(LLMAgent):
        asked, said = "", ""

        async def astep(self) -> None:
            self.said = (await self.llm.agenerate(self.asked)).choices[0].message.content

    async def make(agents: int) -> AskAll:
        model = Model()
        players = [Player(model, CoTReasoning, "openai/gpt-4o-mini") for _ in range(agents)]
        for player in players:
            # The default memory asks the model for summaries, and shows each entry on the terminal.
            player.memory = ShortTermMemory(player, display=False)

        async def ask_all(prompts: Sequence[str]) -> list[str]:
            for player, prompt in zip(players, prompts, strict=True):
                player.asked = prompt
            await step_agents_parallel(players)
            return [player.said for player in players]

        return ask_all

    return make


async def concordia(server: Server) -> Make:
    """Concordia: an entity for each player, all of a round acting at once in threads."""
    from concordia.agents.entity_agent import EntityAgent
    from concordia.components.agent.concat_act_component import ConcatActComponent
    from concordia.components.agent.constant import Constant
    from concordia.language_model.language_model import LanguageModel
    from concordia.typing.entity import free_action_spec
    from concordia.utils.concurrency import run_tasks

    class Fake(LanguageModel):
        def sample_text(self, prompt: str, **_: Any) -> str:
            return server.send(prompt).result()

        def sample_choice(self, prompt: str, responses: Sequence[str], **_: Any) -> Any:
            raise NotImplementedError

    model, games = Fake(), ThreadPoolExecutor(64)

    async def make(agents: int) -> AskAll:
        players = [
            EntityAgent(f"player{n}", ConcatActComponent(model), context_components={"rules": Constant("You play.")})
            for n in range(agents)
        ]

        def ask(prompts: Sequence[str]) -> list[str]:
            acts = {
                str(n): lambda player=player, prompt=prompt: player.act(free_action_spec(call_to_action=prompt))
                for n, (player, prompt) in enumerate(zip(players, prompts, strict=True))
            }
            said = run_tasks(acts)
            return [said[str(n)] for n in range(len(players))]

        async def ask_all(prompts: Sequence[str]) -> list[str]:
            return await asyncio.get_running_loop().run_in_executor(games, ask, prompts)

        return ask_all

    return make


FRAMEWORKS = {"autogen": autogen, "agentscope": agentscope, "mesa-llm": mesa_llm, "concordia": concordia}


async def rate(framework: str, simulations: int, agents: int, ticks: int) -> float:
    """Agent turns a second, from the first question to the last answer.

    Raises:
        AssertionError: the players were asked or understood otherwise than by the rules.
    """

    async def at_once(prompts: Sequence[str]) -> list[str]:
        return [says(prompt) for prompt in prompts]

    with Server(says) as server:
        make = await FRAMEWORKS[framework](server)
        games = [await make(agents) for _ in range(simulations)]
        start = time.perf_counter()
        found = await asyncio.gather(*(played(n, agents, ticks, ask_all) for n, ask_all in enumerate(games)))
        seconds = time.perf_counter() - start
    assert found == [await played(n, agents, ticks, at_once) for n in range(simulations)], "another game"
    return simulations * agents * ticks / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("--simulations", type=int, default=16)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--ticks", type=int, default=5)
    args = parser.parse_args()
    logging.disable(logging.ERROR)
    try:
        found = asyncio.run(rate(args.framework, args.simulations, args.agents, args.ticks))
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        sys.exit(0)
    print(json.dumps({"turns_per_second": found}))
    # Runtimes keep threads and tasks of their own.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
