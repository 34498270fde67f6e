"""Signals to trading bots, and alerts that come in from charts."""
