"""Monitoring: notifications to people, deduplicated and rate-limited."""
