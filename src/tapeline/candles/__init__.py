"""Candles: every kind of bar from ticks, trades or finer bars, in one batch or a tick at a time with the same bits."""
