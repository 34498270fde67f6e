"""Cleaning: what turns checked raw bars into clean ones, with a report of every change."""
