"""Prefect tasks: one file a stage. Each reads the lake, calls the library, checks, and writes the lake.

Between tasks travel jobs, paths and versions, never frames.
"""
