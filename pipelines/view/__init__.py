"""A table to look at in a browser: ``rows`` finds what is looked for, ``pages`` shows it, ``server`` hands it out."""
