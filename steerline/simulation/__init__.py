"""Multi-agent simulations: worlds, agents, who hears whom, a log that can be replayed. Runs without Ray and torch."""
