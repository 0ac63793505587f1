"""The whole path in one command: workbook to tuned, merged, indexed, served and compared."""
