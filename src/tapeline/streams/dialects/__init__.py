"""One module a venue family: raw messages in, records out; no I/O, nothing that a message contains can raise."""
