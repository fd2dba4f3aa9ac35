"""From inbox/ to a queue: scan, decide, claim, pack, send."""
