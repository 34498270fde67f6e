"""How the schema came about: one numbered step a file, run by code when a store is opened."""
