"""How often somebody may ask: one question, answered in the process, for a machine, or for all machines."""
