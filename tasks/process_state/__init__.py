"""State that all tasks of a worker process share: context, settings, identity and progress."""
