"""The API and the pages that people see."""
