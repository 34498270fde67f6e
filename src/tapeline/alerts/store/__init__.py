"""The alert store: firings, rule states, the outbox and all that people set, in SQLite or PostgreSQL."""
