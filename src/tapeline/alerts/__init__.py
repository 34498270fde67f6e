"""The symbol alert system: rules over live ticks, durable firings, delivery to people and bots."""
