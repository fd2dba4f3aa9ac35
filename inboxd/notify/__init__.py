"""Messages to people about failed, stuck, paused and recovered inboxes: what to say, to whom, and how it is sent."""
