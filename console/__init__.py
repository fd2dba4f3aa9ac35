"""What people type: inboxd up, watch, check, status. Starts the other programs as processes, imports none of them."""
