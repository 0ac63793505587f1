"""Documents into draft rows: read, cut, asked about, checked against the text, and written for a person to approve."""
