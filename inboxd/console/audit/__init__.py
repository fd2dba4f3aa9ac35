"""The accounting behind `inboxd audit`."""
