"""Moving files from inbox/ to a queue: scan, decide, claim, pack, send."""
