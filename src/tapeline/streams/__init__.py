"""Live feeds: what venues send, parsed into records; order books kept from them; recorded sessions replayed.

The modules below need the extra ``streams`` (msgspec); importing this package alone does not.
"""
