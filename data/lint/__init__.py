"""Finding the faults of a knowledge sheet, cell by cell, and showing them in a copy of the workbook."""
