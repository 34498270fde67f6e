"""Features: numbers a bar, each from what was known at its close; feature sets and the engine that computes them."""
