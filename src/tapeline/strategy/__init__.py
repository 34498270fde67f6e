"""Strategy: orders, what becomes of them and what they cost, risk, sizing and the simulator."""
