"""Exact accuracy of debating Dirichlet agents, round by round.

The model of Choi et al., "Debate or Vote" (arXiv 2508.17536): an agent holds Dirichlet parameters over the options,
says option k with probability `alpha_k / sum(alpha)`, and adds 1 to `alpha_k` for each other agent that said k. Its
chance to be right is then a martingale: talking does not change it, while the agents' opinions grow alike and a vote
among them gets worse. Here the joint distribution of all agents' parameters is carried forward, without sampling.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@cache
def exact_accuracies(
    agents: int, options: int, skill: float, strength: float, bonus: float, rounds: int
) -> tuple[tuple[float, float], ...]:
    """Accuracy of an agent and of the vote in each round of a debate in which everybody hears everybody.

    Args:
        agents: debaters, N.
        options: answers to choose from, K; option 0 is right.
        skill: chance of an agent to be right before it heard anybody.
        strength: sum of the prior's parameters.
        bonus: what a right message weighs more than a wrong one, relative to it.
        rounds: rounds of talking, after the first answers.

    Returns:
        For rounds 0 to `rounds`, the mean chance of an agent to be right, and the mean share of the right option among
        those with most votes.
    """
    prior = strength * np.array([skill, *[(1 - skill) / (options - 1)] * (options - 1)])
    weight = np.array([1 + bonus, *[1.0] * (options - 1)])
    said = np.eye(options, dtype=np.int64)[list(product(range(options), repeat=agents))]  # [O, N, K]
    right = _share_of_right(said.sum(axis=1))
    counts: Counts = np.zeros((1, agents, options), dtype=np.int64)  # [S, N, K], what each said so far
    chances: Floats = np.ones(1)
    accuracies = []
    for _ in range(rounds + 1):
        alpha = prior + weight * (counts.sum(axis=1, keepdims=True) - counts)
        belief = alpha / alpha.sum(axis=2, keepdims=True)
        outcome = belief[:, 0]
        for agent in range(1, agents):
            outcome = (outcome[:, :, None] * belief[:, agent, None, :]).reshape(len(outcome), -1)  # to [S, O]
        accuracies.append((float(chances @ belief[:, :, 0].mean(axis=1)), float(chances @ outcome @ right)))
        if len(accuracies) <= rounds:
            following = (counts[:, None] + said).reshape(-1, agents, options)
            counts, chances = _merged(following, (chances[:, None] * outcome).ravel())
    return tuple(accuracies)


def _share_of_right(votes: Counts) -> Floats:
    """By outcome [O, K], 1 over the options with most votes where the right one is among them, else 0."""
    most = votes == votes.max(axis=1, keepdims=True)
    share: Floats = most[:, 0] / most.sum(axis=1)
    return share


def _merged(counts: Counts, chances: Floats) -> tuple[Counts, Floats]:
    """States that differ by the order of agents or of wrong options only, as one."""
    base = int(counts.max()) + 1
    _, agents, options = counts.shape
    assert base ** (agents * options) < 2**63, "the debate is too large for exact accuracies"
    keys = []
    for order in permutations(range(1, options)):
        digits = counts[:, :, [0, *order]] @ base ** np.arange(options)
        digits.sort(axis=1)
        keys.append(digits @ (base**options) ** np.arange(agents))
    _, first, group = np.unique(np.min(keys, axis=0), return_index=True, return_inverse=True)
    merged: Floats = np.bincount(group, weights=chances).astype(np.float64)
    return counts[first], merged
