"""Users of a recommender: each page shows some items, and everybody takes one, none, or leaves for good.

After Zhang et al., "On Generative Agents in Recommendation" (Agent4Rec), arXiv 2310.10108: agents whose tastes come
from data go through pages until they are tired. An item has a main and a side genre; a user has a taste for each genre,
read off the agent's profile (attributes named like genres, e.g. from a table of ratings) or drawn. How much a user
likes an item is `(2 * taste[main] + taste[side]) / 3`; the items that a user likes are the best `liked_share` of the
catalogue. The recommender knows choices only, but for the `oracle`, which knows tastes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Choice
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State

GENRES = ("action", "comedy", "crime", "drama", "fantasy", "horror", "musical", "romance", "thriller", "western")
NONE, LEAVE = "none", "leave"
Items = NDArray[np.intp]
"""Numbers of items."""


class RecommenderParams(Spec):
    """Settings of the recommender and its catalogue."""

    items: int = Field(default=300, ge=2)
    """Items in the catalogue; main genres take turns."""
    genres: int = Field(default=5, ge=2, le=len(GENRES))
    """Genres."""
    page_size: int = Field(default=5, ge=1)
    """Items on a page."""
    pages: int = Field(default=8, ge=1)
    """Pages that a user is shown, one a tick."""
    algorithm: Literal["random", "popular", "factor", "oracle"] = "factor"
    """What is shown: anything; items at random in proportion to the number of their choices so far; items of the genres
    that this user chose most often when they were shown; or what this user likes best."""
    repeat: bool = False
    """Whether an item may be shown to a user again."""
    liked_share: float = Field(default=0.25, gt=0, le=1)
    """Share of the catalogue that a user likes."""
    common: float = Field(default=0.3, ge=0, le=1)
    """How much drawn tastes have in common."""

    @model_validator(mode="after")
    def _catalogue_is_large_enough(self) -> RecommenderParams:
        needed = self.page_size if self.repeat else self.page_size * self.pages
        if needed > self.items:
            raise misfit("the catalogue has too few items for all pages", "items", expected=f"at least {needed}")
        return self


class Recommender(Scenario[RecommenderParams]):
    """Users, a catalogue, and what is shown to whom."""

    Params = RecommenderParams
    takes_turns = False
    coverage = Coverage(
        domain="recommender",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined", "data_derived"}),
        paradigm=frozenset(),
        structure=frozenset(),
        feedback=frozenset({"environment"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        p = self.params
        if not seats:
            raise SimulationError("there is nobody to recommend to", got="no agents", expected="at least one")
        main = np.arange(p.items) % p.genres
        # A side genre is any but the main one.
        side = (main + rng.generator("side").integers(1, p.genres, p.items)) % p.genres
        state = {
            "users": {seat.id: place for place, seat in enumerate(seats)},
            "main": main.astype(np.uint8),  # [I] genre
            "side": side.astype(np.uint8),  # [I] genre
            "tastes": self._tastes(seats, rng),  # [U, G] in 0..1
            "shown": np.zeros((len(seats), p.items), np.int32),  # times
            "chosen": np.zeros((len(seats), p.items), np.int32),  # times
            "dull": dict.fromkeys((seat.id for seat in seats), 0),  # pages in a row on which nothing was chosen
            "gone": [],  # users who left
            "page": 0,
            "entropy": [],  # by page, the mean over users of the entropy of its genres
            "pleasure": 0.0,  # sum over pages and users of how much the chosen item is liked
            "views": 0,  # pages seen by users
        }
        return {**state, "pages": self._pages(state, rng)}

    def who_acts(self, state: State) -> Sequence[str]:
        return [user for user in state["users"] if user not in state["gone"]]

    def observe(self, state: State, agent: str) -> Observation:
        tastes = dict(zip(GENRES, state["tastes"][state["users"][agent]].tolist(), strict=False))
        page = [(_name(item), *self._genres(state, item)) for item in state["pages"][agent]]
        dull = state["dull"][agent]
        lines = [f"Page {state['page'] + 1}:", *(f"{name}: {main}, a little {side}" for name, main, side in page)]
        if dull:
            lines.append(f"You took nothing from the last {dull} page{'s' if dull > 1 else ''}.")
        likes = ", ".join(f"{genre} {taste:.2f}" for genre, taste in sorted(tastes.items(), key=lambda t: -t[1]))
        legal = Choice((*(name for name, _, _ in page), NONE, LEAVE), default=NONE)
        facts = {"page": page, "tastes": {genre: round(taste, 2) for genre, taste in tastes.items()}, "dull": dull}
        return Observation(
            legal, "\n".join(lines), private=f"how much you like genres, from 0 to 1: {likes}.", facts=facts
        )

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        shown, chosen = state["shown"].copy(), state["chosen"].copy()
        dull, gone, feedback = dict(state["dull"]), list(state["gone"]), []
        for user, page in state["pages"].items():
            place, took = state["users"][user], actions[user].payload if user in actions else NONE
            shown[place, page] += 1
            liking = 0.0
            if took == LEAVE:
                gone.append(user)
            if took in (LEAVE, NONE):
                dull[user] += 1
            else:
                item = _number(took)
                chosen[place, item] += 1
                dull[user] = 0
                liking = float(self._likings(state, place)[item])
            feedback.append(Feedback("environment", user, liking))
        pages = state["pages"].values()
        new = {
            **state,
            "shown": shown,
            "chosen": chosen,
            "dull": dull,
            "gone": gone,
            "page": state["page"] + 1,
            "entropy": [*state["entropy"], fmean(_entropy(state["main"][page]) for page in pages)],
            "pleasure": state["pleasure"] + sum(told.value or 0.0 for told in feedback),
            "views": state["views"] + len(pages),
        }
        event = {"shown": {user: [_name(item) for item in page] for user, page in state["pages"].items()}}
        over = new["page"] >= self.params.pages
        return Resolution({**new, "pages": {} if over else self._pages(new, rng)}, [event], feedback)

    def done(self, state: State) -> bool:
        return state["page"] >= self.params.pages or len(state["gone"]) == len(state["users"])

    def metrics(self, state: State) -> Mapping[str, float]:
        shown = state["shown"]
        liked = np.array([self._liked(state, place) for place in range(len(shown))])
        return {
            "precision": float((shown * liked).sum() / shown.sum()),
            "recall": float(((shown > 0) & liked).sum() / liked.sum()),
            "entropy": state["entropy"][-1],
            "gini": gini(1 + state["chosen"].sum(axis=0)),
            "exit_rate": len(state["gone"]) / len(state["users"]),
            "satisfaction": state["pleasure"] / state["views"],
        }

    def rules(self) -> str:
        return (
            f"You look for something to watch. You are shown up to {self.params.pages} pages of"
            f" {self.params.page_size} items. From each page you take the one item that you like best, or `{NONE}`."
            f" If the pages bore you, `{LEAVE}` and do not come back."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        return {
            **self.metrics(state),
            "entropy_by_page": state["entropy"],
            "choices": state["chosen"].sum(axis=0).tolist(),
        }

    def _tastes(self, seats: Sequence[Seat], rng: CounterRng) -> NDArray[np.float64]:
        """How much each user likes each genre [U, G]: from the profile where it says so, drawn where it does not."""
        p = self.params
        shared = rng.generator("shared").random(p.genres)
        tastes = np.empty((len(seats), p.genres))
        for row, seat in zip(tastes, seats, strict=True):
            row[:] = p.common * shared + (1 - p.common) * rng.generator("taste", seat.id).random(p.genres)
            for place, genre in enumerate(GENRES[: p.genres]):
                if genre in seat.profile.attributes:
                    row[place] = _taste(seat, genre)
        return tastes

    def _pages(self, state: State, rng: CounterRng) -> dict[str, list[int]]:
        """What everybody who is still there is shown next."""
        return {user: self._page(state, user, rng).tolist() for user in self.who_acts(state)}

    def _page(self, state: State, user: str, rng: CounterRng) -> Items:
        place, size, draws = state["users"][user], self.params.page_size, rng.generator("page", user)
        shown: NDArray[np.int32] = state["shown"][place]
        items: Items = np.arange(len(shown)) if self.params.repeat else np.flatnonzero(shown == 0)
        match self.params.algorithm:
            case "random":
                return draws.choice(items, size, replace=False)
            case "popular":
                # The first of exponential clocks that run at these rates: sampling in proportion, without replacement
                # (Efraimidis and Spirakis 2006).
                clocks = draws.exponential(size=len(items)) / (1 + state["chosen"].sum(axis=0)[items])
                return items[_best(-clocks, size)]
            case "factor":
                order, rates = draws.permutation(items), self._rates(state, place)
                return order[_best((2 * rates[state["main"]] + rates[state["side"]])[order], size)]
            case "oracle":
                return items[_best(self._likings(state, place)[items], size)]

    def _rates(self, state: State, place: int) -> NDArray[np.float64]:
        """How often a user chose items of each genre when they were shown [G]; one of a page at first."""
        main, genres = state["main"], self.params.genres
        chosen = np.bincount(main, weights=state["chosen"][place], minlength=genres)
        shown = np.bincount(main, weights=state["shown"][place], minlength=genres)
        return (1 + chosen) / (self.params.page_size + shown)

    def _likings(self, state: State, place: int) -> NDArray[np.float64]:
        """How much a user likes each item [I]."""
        tastes, main, side = state["tastes"][place], state["main"], state["side"]
        likings: NDArray[np.float64] = (2 * tastes[main] + tastes[side]) / 3
        return likings

    def _liked(self, state: State, place: int) -> NDArray[np.bool_]:
        """Which items a user likes [I]: always the same number of them, so that ties go to the first."""
        liked = np.zeros(self.params.items, np.bool_)
        liked[_best(self._likings(state, place), _liked_items(self.params))] = True
        return liked

    def _genres(self, state: State, item: int) -> tuple[str, str]:
        return GENRES[state["main"][item]], GENRES[state["side"][item]]

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        few = RecommenderParams(items=30, pages=4, page_size=4)
        urn = RecommenderParams(items=12, pages=8, page_size=1, repeat=True, algorithm="popular")
        small = few.model_dump(include={"items", "pages", "page_size"})
        return [
            Oracle(
                "who knows all tastes shows only what is liked",
                game(["picky"] * 6, **{**small, "pages": 2}, liked_share=0.3, algorithm="oracle"),
                lambda result: result.metrics[-1]["precision"],
                exact=1.0,
                source="the best 8 of 30 items are among the 9 that are liked",
            ),
            Oracle(
                "random pages hold as much that is liked as the catalogue",
                game(["easygoing"] * 6, **small, algorithm="random"),
                lambda result: result.metrics[-1]["precision"],
                exact=_liked_items(few) / few.items,
                source="every item is shown with the same chance",
            ),
            Oracle(
                "random pages stay as varied as the first",
                game(["easygoing"] * 6, **small, algorithm="random"),
                lambda result: result.state["entropy"][-1],
                exact=page_entropy(few),
                source="genres drawn without replacement are hypergeometric, on the last page as on the first",
            ),
            Oracle(
                "popularity concentrates like an urn",
                game(["easygoing"] * 10, **urn.model_dump()),
                _concentration,
                exact=urn_concentration(urn, users=10),
                source="Polya's urn in batches: E[h'] = h + n (1 - h) / (W + n)^2 for n choices on W balls",
                seeds=60,
            ),
        ]


def game(policies: Sequence[str], **params: Any) -> SimulationSpec:
    """A recommender with scripted users, each a policy."""
    users = tuple(
        AgentSpec(id=f"user-{place:03}", brain=ScriptedBrain(kind="scripted", policy=policy))
        for place, policy in enumerate(policies)
    )
    pages = RecommenderParams.model_validate(params).pages
    return SimulationSpec(scenario="recommender", params=params, agents=users, max_ticks=pages)


def picky(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Takes the best item that it likes by `threshold` (attribute; 0.6) or more; leaves after `patience` (attribute; 4)
    pages without one."""
    facts = observation.facts
    likings = {name: (2 * facts["tastes"][main] + facts["tastes"][side]) / 3 for name, main, side in facts["page"]}
    best = max(likings, key=lambda name: likings[name])
    if likings[best] >= float(profile.attributes.get("threshold", 0.6)):
        return answer(best)
    return answer(LEAVE if facts["dull"] + 1 >= int(profile.attributes.get("patience", 4)) else NONE)


def easygoing(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Takes the first item and never leaves."""
    return answer(observation.facts["page"][0][0])


def fickle(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Takes any item or none, all equally likely."""
    return answer(rng.choice([*(name for name, _, _ in observation.facts["page"]), NONE], "take"))


Recommender.scripted = {"picky": picky, "easygoing": easygoing, "fickle": fickle}


def page_entropy(params: RecommenderParams) -> float:
    """Expected entropy of the main genres on a random page, in nats."""
    from scipy.stats import hypergeom

    size, total = params.page_size, 0.0
    for genre in range(params.genres):
        members = len(range(genre, params.items, params.genres))
        for count in range(1, min(size, members) + 1):
            chance = float(hypergeom.pmf(count, params.items, members, size))
            total -= chance * count / size * math.log(count / size)
    return total


def urn_concentration(params: RecommenderParams, users: int) -> float:
    """Expected sum of squared shares of the items after all pages, if each user takes the only item of each page."""
    balls, concentration = params.items, 1 / params.items
    for _ in range(params.pages):
        concentration += users * (1 - concentration) / (balls + users) ** 2
        balls += users
    return concentration


def gini(values: NDArray[np.int64]) -> float:
    """Gini coefficient of how often items were chosen, each counted once more than it was."""
    ranks = np.arange(1, len(values) + 1)
    return float(((2 * ranks - len(values) - 1) * np.sort(values)).sum() / (len(values) * values.sum()))


def _concentration(result: Result) -> float:
    weights = 1 + result.state["chosen"].sum(axis=0)
    return float(((weights / weights.sum()) ** 2).sum())


def _liked_items(params: RecommenderParams) -> int:
    return max(1, round(params.liked_share * params.items))


def _best(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Places of the highest scores; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


def _entropy(genres: NDArray[np.uint8]) -> float:
    """Entropy of the genres on a page, in nats."""
    counts = np.bincount(genres)
    shares = counts[counts > 0] / len(genres)
    return float(-(shares * np.log(shares)).sum())


def _taste(seat: Seat, genre: str) -> float:
    value = seat.profile.attributes[genre]
    try:
        taste = float(value)
    except ValueError:
        taste = math.nan
    if not 0 <= taste <= 1:
        raise SimulationError(
            "a taste is a number from 0 to 1",
            where=f"agent {seat.id}, attribute {genre}",
            got=value,
            fix="divide ratings by the best rating",
        )
    return taste


def _name(item: int) -> str:
    return f"m{item + 1:02}"


def _number(name: str) -> int:
    return int(name[1:]) - 1
