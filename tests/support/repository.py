"""Where the project's tree lies."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
