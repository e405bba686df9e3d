"""The domain: what a model entry, a key and a viewer are, and who sees what.

Standard library only. Nothing here knows of HTTP, JSON shapes on the wire or SQL.
"""
