"""One module a command of ``curricle``: what it does, from its settings to its last line."""
