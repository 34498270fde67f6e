"""Types of alerts: each module declares the functions that conditions may name, and what its series are made of."""
