"""What Celery's worker survives here and would not elsewhere: a lost Redis, bad messages, silence."""
