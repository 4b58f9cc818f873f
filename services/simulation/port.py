"""How the HTTP layer tells the hosts of simulations that there is something to play."""

from typing import Protocol


class Hosts(Protocol):
    """The replicas that play simulations, wherever they are. What is to be played stands in the store."""

    async def wake(self, sim: str) -> None:
        """Have a host look at simulation `sim` now, and return at once; a call that is lost costs a host's interval."""
        ...
