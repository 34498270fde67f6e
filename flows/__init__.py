"""Prefect flows: order, schedules, hooks. One file a flow; nothing is computed here."""
