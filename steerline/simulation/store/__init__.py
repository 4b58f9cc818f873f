"""Where simulations are kept: in memory, in an SQLite file, or on a PostgreSQL server, behind one interface."""
