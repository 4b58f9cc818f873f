"""What every service shares over HTTP: access, limits, errors."""
