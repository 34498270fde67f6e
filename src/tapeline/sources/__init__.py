"""Sources of market data behind one interface: the packaged sample, files, exchanges, Yahoo, MetaTrader 5."""
