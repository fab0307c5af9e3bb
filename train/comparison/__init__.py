"""``curricle-train compare``: several orders over several seeds."""
