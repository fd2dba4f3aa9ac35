"""What travels through Celery: payloads, outcomes, queues, and the file that a handler gets."""
