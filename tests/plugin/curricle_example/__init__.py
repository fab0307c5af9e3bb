"""One plug-in of each kind: what docs/extend.md calls a package of your own."""
