"""All settings, and the record of everything that decides the result of a run."""
