"""Celery messages and results: payloads, outcomes, queues, and the file object that a handler gets."""
