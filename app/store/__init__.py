"""The only place that speaks SQL: SQLAlchemy Core on one SQLite file."""
