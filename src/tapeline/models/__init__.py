"""Models: purged validation, training, tuning, calibration, explanation, tracking, registry, scoring."""
