"""What all tasks of a worker process share: its context, settings, identity and progress."""
