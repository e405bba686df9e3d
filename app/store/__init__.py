"""The only place that speaks SQL: SQLAlchemy Core on SQLite or PostgreSQL."""
