//! PostgreSQL on the wire, pure: frames, login, statements, rows, and the analysis of SQL.
