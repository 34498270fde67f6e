"""How each kind of bot is spoken to: one file a dialect, one interface."""
