"""`python -m console` is `inboxd`, for a checkout that is not installed."""

from console.main import main

main()
