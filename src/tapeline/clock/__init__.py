"""Clocks: offsets between local, broker, exchange and NTP time, broker time to UTC, and drift of each feed."""
