"""Werewolf: a village votes people out by day, hidden wolves take one of it by night.

Rules after Xu et al., "Exploring Large Language Models for Communication Games: An Empirical Study on Werewolf" (arXiv
2309.04658). A tick is a day and the night after it. By day all talk, then vote; by night the wolves whisper among
themselves and choose, the seer learns whether one player is a wolf, the witch may save and poison, each once. What a
player is, that player alone knows; the wolves know each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.action import Action, ActionSpec, Choice, FreeText
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.werewolf_brains import NOBODY, POLICIES, SEER, VILLAGER, WITCH, WOLF, game
from steerline.simulation.scenarios.werewolf_theory import (
    Victory,
    villager_survives,
    wolves_have_won,
    wolves_win,
)

NOTHING = "nothing"

_CLAIM = re.compile(
    rf"^[ \t]*CLAIM:\s*(\S+)\s+(?:is|am)\s+(?:an?\s+|the\s+)?({WOLF}|{SEER}|{WITCH}|{VILLAGER})\b",
    re.IGNORECASE | re.MULTILINE,
)


class WerewolfParams(Spec):
    """Settings of the game of werewolf."""

    wolves: int = Field(default=2, ge=1)
    """Players that are wolves."""
    seer: bool = True
    """Whether one player learns each night whether another is a wolf."""
    witch: bool = False
    """Whether one player can save the wolves' victim once, and poison somebody once."""
    talks: int = Field(default=1, ge=0)
    """Rounds of talk before each vote."""
    whispers: bool = True
    """Whether two or more wolves talk among themselves before they choose."""
    reveal: bool = True
    """Whether all learn what a dead player was."""
    victory: Victory = "parity"
    """When wolves have won: they are as many as the others (`parity`), or the others are gone (`all`)."""


class Werewolf(Scenario[WerewolfParams]):
    """The game of werewolf."""

    Params = WerewolfParams
    takes_turns = False
    coverage = Coverage(
        domain="game",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative", "debate", "competitive"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory"}),
    )
    scripted = POLICIES

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        return {
            "roles": self._dealt(seats, rng),
            "alive": [seat.id for seat in seats],
            "day": 1,
            "stage": "talk" if self.params.talks else "vote",
            "talked": 0,  # rounds of talk so far this day
            "deaths": [],  # who died when, by whom
            "votes": {},  # of the last day
            "checked": {},  # what the seer has learned: player, whether it is a wolf
            "victim": None,  # chosen by the wolves this night, while the witch decides
            "potions": ["save", "poison"] if self.params.witch else [],
            "claims": [],
            "tally": {"votes": 0, "hits": 0},  # of villagers' votes, those against wolves
        }

    def who_acts(self, state: State) -> Sequence[str]:
        alive, roles = state["alive"], state["roles"]
        match state["stage"]:
            case "talk" | "vote":
                awake = {WOLF, SEER, WITCH, VILLAGER}
            case "whisper":
                awake = {WOLF}
            case "night":
                awake = {WOLF, SEER} if self._unknown(state) else {WOLF}
            case _:
                awake = {WITCH}
        return [player for player in alive if roles[player] in awake]

    def observe(self, state: State, agent: str) -> Observation:
        role, secret = state["roles"][agent], ""
        facts = {name: state[name] for name in ("stage", "day", "alive", "deaths", "votes")} | {"role": role}
        if role == WOLF:
            facts["wolves"] = _holders(state, WOLF)
            secret = f" The wolves are: {', '.join(facts['wolves'])}."
        elif role == SEER:
            facts["checked"] = state["checked"]
            learned = (f"{player} is {'a wolf' if wolf else 'no wolf'}" for player, wolf in state["checked"].items())
            secret = f" You learned: {'; '.join(learned)}." if state["checked"] else ""
        elif role == WITCH and state["stage"] == "witch":
            facts |= {"potions": state["potions"], "victim": state["victim"]}
            secret = f" The wolves attack {state['victim'] or NOBODY}."
        legal, question = self._asked(state, agent)
        return Observation(legal, f"{_news(state)}\n{question}", private=f"you are a {role}.{secret}", facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        match state["stage"]:
            case "talk":
                return self._talk(state, actions)
            case "vote":
                return self._vote(state, actions, rng)
            case "whisper":
                pack = _holders(state, WOLF)
                said = [
                    Draft(wolf, action.payload, recipients=tuple(w for w in pack if w != wolf), channel="night")
                    for wolf, action in actions.items()
                ]
                return Resolution({**state, "stage": "night"}, messages=said, again=True)
            case "night":
                return self._night(state, actions, rng)
            case _:
                return self._dawn(state, actions)

    def done(self, state: State) -> bool:
        return _winner(state, self.params.victory) is not None

    def metrics(self, state: State) -> Mapping[str, float]:
        roles, claims, tally = state["roles"], state["claims"], state["tally"]
        true = sum(roles[claim["about"]] == claim["role"] for claim in claims)
        numbers = {
            "alive": len(state["alive"]),
            "wolves": len(_living(state, WOLF)),
            "vote_accuracy": tally["hits"] / tally["votes"] if tally["votes"] else 0.0,
            "claims_true": true,
            "claims_false": len(claims) - true,
            "wolves_won": _winner(state, self.params.victory) == "wolves",
        }
        return {**numbers, "seer_alive": len(_living(state, SEER))} if self.params.seer else numbers

    def rules(self) -> str:
        p = self.params
        aim = "as many as the others" if p.victory == "parity" else "the only ones left"
        lines = [
            "You play werewolf. Some players are secretly werewolves; the others are the village. Each day all living"
            " players talk, then vote one player out. Each night the werewolves kill one player. The village wins when"
            f" all werewolves are out; the werewolves win when they are {aim}."
        ]
        if p.seer:
            lines.append("The seer learns each night whether one player is a werewolf.")
        if p.witch:
            lines.append("The witch can once save the victim of a night, and once poison a player.")
        lines.append("Say what others should believe in lines of the form `CLAIM: bob is a werewolf`. You may lie.")
        return " ".join(lines)

    def outcome(self, state: State) -> Mapping[str, Any]:
        names = ("roles", "deaths", "claims")
        winner = _winner(state, self.params.victory)
        return {"winner": winner, **self.metrics(state), **{name: state[name] for name in names}}

    def _dealt(self, seats: Sequence[Seat], rng: CounterRng) -> dict[str, str]:
        """A role for each player: the one that its profile names, or one dealt from what is left."""
        p = self.params
        special = [WOLF] * p.wolves + [SEER] * p.seer + [WITCH] * p.witch
        deck = Counter(special + [VILLAGER] * (len(seats) - len(special)))
        chosen = {seat.id: seat.profile.role for seat in seats if seat.profile.role in (WOLF, SEER, WITCH, VILLAGER)}
        taken = Counter(chosen.values())
        if len(seats) < len(special) or wolves_have_won(len(seats), p.wolves, "parity") or not taken <= deck:
            raise SimulationError(
                "these players cannot play werewolf",
                where="params",
                got=f"{len(seats)} players; roles given by profiles: {dict(taken) or 'none'}",
                expected=f"more than {2 * p.wolves} players for the roles {', '.join(special)}, none twice",
            )
        others = [seat.id for seat in seats if seat.id not in chosen]
        dealt = chosen | dict(zip(rng.shuffled(others, "roles"), (deck - taken).elements(), strict=True))
        return {seat.id: dealt[seat.id] for seat in seats}

    def _asked(self, state: State, agent: str) -> tuple[ActionSpec, str]:
        """What an agent may do now, and the question."""
        if agent not in self.who_acts(state):
            return FreeText(), "It is not your turn."
        others = tuple(player for player in state["alive"] if player != agent)
        if state["stage"] == "talk":
            return FreeText(max_chars=600), "Speak to the village."
        if state["stage"] == "vote":
            return Choice((*others, NOBODY), default=NOBODY), "Vote: who is to be put out of the village?"
        legal, question = self._asked_at_night(state, state["roles"][agent], others)
        return legal, f"It is night. {question}"

    def _asked_at_night(self, state: State, role: str, others: tuple[str, ...]) -> tuple[ActionSpec, str]:
        if state["stage"] == "whisper":
            return FreeText(max_chars=300), "Speak to the other werewolves; nobody else hears you."
        if role == WITCH:
            save = ("save",) if "save" in state["potions"] and state["victim"] else ()
            poison = tuple(f"poison {player}" for player in others) if "poison" in state["potions"] else ()
            return Choice((NOTHING, *save, *poison), default=NOTHING), "Do you use a potion?"
        if role == WOLF:
            prey = tuple(player for player in others if state["roles"][player] != WOLF)
            return Choice(prey, default=NOBODY), "Whom do the werewolves kill?"
        return Choice(tuple(self._unknown(state)), default=NOBODY), "Whom do you look at?"

    def _talk(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        claims = {speaker: _claims(state, speaker, action.payload) for speaker, action in actions.items()}
        talked = state["talked"] + 1
        new = {
            **state,
            "talked": talked,
            "stage": "talk" if talked < self.params.talks else "vote",
            "claims": [*state["claims"], *(claim for some in claims.values() for claim in some)],
        }
        said = [
            Draft(speaker, action.payload, data=claims[speaker], channel="village", paradigm="debate")
            for speaker, action in actions.items()
            if action.payload
        ]
        return Resolution(new, messages=said, again=True)

    def _vote(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        roles = state["roles"]
        votes = {voter: action.payload for voter, action in actions.items()}
        aimed = [roles[target] == WOLF for voter, target in votes.items() if roles[voter] != WOLF and target != NOBODY]
        tally = {"votes": state["tally"]["votes"] + len(aimed), "hits": state["tally"]["hits"] + sum(aimed)}
        out = _most_named(votes.values(), rng)
        new = self._buried({**state, "votes": votes, "tally": tally}, {out: "vote"} if out else {})
        told = [Feedback("agent", out, -1.0, "You were voted out.")] if out else []
        event = {"votes": votes, "voted_out": out}
        if self.done(new):
            return Resolution(new, [event], [*told, *self._rewards(new)])
        whisper = self.params.whispers and len(_living(new, WOLF)) > 1
        return Resolution({**new, "stage": "whisper" if whisper else "night"}, [event], told, again=True)

    def _night(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        roles = state["roles"]
        victim = _most_named([a.payload for player, a in actions.items() if roles[player] == WOLF], rng)
        seen = {
            a.payload: roles[a.payload] == WOLF for p, a in actions.items() if roles[p] == SEER and a.payload in roles
        }
        new = {**state, "victim": victim, "checked": {**state["checked"], **seen}}
        if _living(state, WITCH) and state["potions"]:
            return Resolution({**new, "stage": "witch"}, [{"victim": victim, "checked": seen}], again=True)
        return self._dawn(new, {})

    def _dawn(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        deaths = {state["victim"]: "wolves"} if state["victim"] else {}
        used = ""
        for action in actions.values():
            used, _, target = action.payload.partition(" ")
            if used == "save":
                deaths = {}
            elif used == "poison":
                deaths = {**deaths, target: "witch"}
        buried = self._buried(state, deaths)
        new = {
            **buried,
            "potions": [potion for potion in state["potions"] if potion != used],
            "victim": None,
            "talked": 0,
            "stage": "talk" if self.params.talks else "vote",
            "day": state["day"] + 1,
        }
        return Resolution(new, [{"night": state["day"], "deaths": deaths}], self._rewards(new))

    def _buried(self, state: State, deaths: Mapping[str, str]) -> State:
        """The village without the dead."""
        roles = state["roles"] if self.params.reveal else {}
        graves = [
            {"day": state["day"], "by": by, "who": who, **({"role": roles[who]} if roles else {})}
            for who, by in deaths.items()
        ]
        alive = [player for player in state["alive"] if player not in deaths]
        return {**state, "alive": alive, "deaths": [*state["deaths"], *graves]}

    def _rewards(self, state: State) -> list[Feedback]:
        """1 for those who won and 0 for those who lost, once it is known."""
        winner = _winner(state, self.params.victory)
        if winner is None:
            return []
        won = {player: (role == WOLF) == (winner == "wolves") for player, role in state["roles"].items()}
        return [Feedback("environment", player, float(value)) for player, value in won.items()]

    def _unknown(self, state: State) -> list[str]:
        """Living players whom the seer has not looked at."""
        return [p for p in state["alive"] if state["roles"][p] != SEER and p not in state["checked"]]

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        sizes: list[tuple[int, int, Victory]] = [
            (5, 1, "parity"),
            (7, 1, "parity"),
            (7, 2, "parity"),
            (9, 2, "parity"),
            (10, 2, "parity"),
            (10, 2, "all"),
        ]
        recursion = "the random death process (werewolf_theory.py)"
        chances = [
            Oracle(
                f"wolves win, {players} players with {wolves} of them wolves ({victory})",
                _blind(players, wolves, victory),
                lambda result: result.metrics[-1]["wolves_won"],
                exact=float(wolves_win(players, wolves, victory)),
                source=recursion,
                seeds=150,
            )
            for players, wolves, victory in sizes
        ]
        return [
            *chances,
            Oracle(
                "share of the villagers alive at the end, 9 players with 2 wolves",
                _blind(9, 2, "parity"),
                lambda result: (result.metrics[-1]["alive"] - result.metrics[-1]["wolves"]) / 7,
                exact=float(villager_survives(9, 2, "parity")),
                source=recursion,
                seeds=150,
            ),
            Oracle(
                "villagers' votes that hit a wolf on the first day, 9 players with 2 wolves",
                _blind(9, 2, "parity"),
                lambda result: result.metrics[0]["vote_accuracy"],
                exact=2 / 8,
                source="a villager votes for one of 8 others, of whom 2 are wolves",
                seeds=150,
            ),
        ]


def _blind(players: int, wolves: int, victory: Victory) -> SimulationSpec:
    """A game in which nobody knows, says or guesses anything."""
    return game(["random"] * players, wolves=wolves, victory=victory, seer=False, talks=0, whispers=False)


def _winner(state: State, victory: Victory) -> str | None:
    wolves = len(_living(state, WOLF))
    if not wolves:
        return "village"
    return "wolves" if wolves_have_won(len(state["alive"]), wolves, victory) else None


def _holders(state: State, role: str) -> list[str]:
    return [player for player, held in state["roles"].items() if held == role]


def _living(state: State, role: str) -> list[str]:
    return [player for player in state["alive"] if state["roles"][player] == role]


def _most_named(names: Iterable[str], rng: CounterRng) -> str | None:
    """Who is named most; a tie is settled by a draw, and nobody counts for nobody."""
    counts = Counter(name for name in names if name != NOBODY)
    leaders = sorted(name for name, count in counts.items() if count == max(counts.values()))
    return rng.choice(leaders, "tie") if leaders else None


def _claims(state: State, speaker: str, text: str) -> list[dict[str, Any]]:
    """What a text claims about players, line by line; `I` is the speaker."""
    known = {player.casefold(): player for player in state["roles"]} | {"i": speaker}
    named = [(known.get(about.casefold()), role.lower()) for about, role in _CLAIM.findall(text)]
    return [{"day": state["day"], "by": speaker, "about": about, "role": role} for about, role in named if about]


def _news(state: State) -> str:
    """What all know."""
    how = {"vote": "was voted out", "wolves": "was killed by the werewolves", "witch": "was poisoned"}
    lines = [f"It is day {state['day']}. Alive: {', '.join(state['alive'])}."]
    for death in state["deaths"]:
        was = f", a {death['role']}" if "role" in death else ""
        lines.append(f"Day {death['day']}: {death['who']}{was}, {how[death['by']]}.")
    if state["votes"]:
        cast = ", ".join(f"{voter} for {target}" for voter, target in state["votes"].items())
        lines.append(f"Last votes: {cast}.")
    return "\n".join(lines)
