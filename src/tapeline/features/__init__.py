"""Features: registered per-bar functions, feature sets with content-hash versions, one engine for batch and live."""
