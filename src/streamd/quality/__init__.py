"""What records must be like: schemas and rules, what becomes of records that break them, and how good they are."""
