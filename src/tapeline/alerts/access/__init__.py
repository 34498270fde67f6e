"""Who may do what: people, roles, tokens, keys, quotas, and the log of what was done."""
