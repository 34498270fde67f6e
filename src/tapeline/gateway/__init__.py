"""The doors: the HTTP API, its page, and what comes in from outside."""
