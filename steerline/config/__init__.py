"""Every spec a user can write, and how a file becomes one. Needs pydantic and PyYAML only."""
