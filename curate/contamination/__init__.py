"""Whether rows hold texts of a benchmark: ``benchmark`` has its texts, ``search`` looks for them in rows."""
