"""What is measured, a file for each part; every file has `NAME` and `run`.

`run(plan, catalogues)` returns the `Findings` of its part.
"""
