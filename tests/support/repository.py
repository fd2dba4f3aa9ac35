"""The path of the project's source tree."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
