"""Several engines at once: the queue between them, shards and who owns them."""
