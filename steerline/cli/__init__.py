"""The `steerline` command. Each command parses, calls the library and prints; heavy libraries load when one runs."""

from steerline.cli.app import main

__all__ = ["main"]
