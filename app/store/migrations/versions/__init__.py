"""One file for each change of the schema, numbered; none is edited once it is released.

Each says in `oldest_schema` which programs may still run on what it makes: those that write
nothing that the new schema forbids, and find everything that they read.
"""
