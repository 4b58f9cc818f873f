"""The topologies that a spec can name."""
