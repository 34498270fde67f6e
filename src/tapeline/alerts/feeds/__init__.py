"""Feeds: several sources to one ordered stream of batches for the evaluator, kept on disk and replayed."""
