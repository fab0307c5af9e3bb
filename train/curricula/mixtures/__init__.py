"""Mixtures of domains: ``static`` and ``multistage`` are fixed beforehand, the others follow the student's losses.

A domain is a value of a column, such as ``source``, or a pattern of values. ``train/data/domains.py`` says which rows
are in which, ``streams`` what comes next in one, ``stride`` whose turn it is, ``mixing`` puts them together.
"""
