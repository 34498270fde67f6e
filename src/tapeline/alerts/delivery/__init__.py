"""Delivery: how a stored firing reaches people and bots, at least once, under one id and with one body."""
