"""Safeguards for Celery's worker: against a lost Redis, against bad messages, and against a consumer that stops consuming."""
