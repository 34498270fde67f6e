"""Evaluation: metrics with intervals, baselines, plots and the HTML report."""
