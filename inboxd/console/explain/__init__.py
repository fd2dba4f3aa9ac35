"""The explanations behind `inboxd explain`."""
