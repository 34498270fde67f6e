"""Benchmarks: one file a topic, each runnable alone, each against a peer in the same run."""
