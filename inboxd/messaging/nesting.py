"""How deep a value of a message is nested."""


def is_deeper(value: object, levels: int) -> bool:
    """Return whether maps and lists are nested more than ``levels`` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(item, levels - 1) for item in inner)
