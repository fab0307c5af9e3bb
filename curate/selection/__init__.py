"""Which rows of a table to keep: rules from columns to row numbers. No rule depends on the order of the rows."""
