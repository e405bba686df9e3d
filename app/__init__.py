"""Roster: the models endpoint of a whole company, as a small Flask application."""
