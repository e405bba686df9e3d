"""The domain: entries, keys and viewers, and which viewers see which entries.

Standard library only. Nothing here knows of HTTP, of JSON on the wire or of SQL.
"""
