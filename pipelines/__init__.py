"""How scoring runs: Beam transforms, the jobs made of them, and the ``curricle`` command."""
