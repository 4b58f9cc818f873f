"""Steerline: steer, train, probe and serve language models on a Ray cluster.

Importing this package starts nothing and touches no network.
"""

__version__ = "0.1.0"
