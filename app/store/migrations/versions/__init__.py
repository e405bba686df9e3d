"""One file for each change of the schema, numbered; none is edited once it is released."""
