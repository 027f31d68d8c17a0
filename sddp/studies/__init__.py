"""Studies: tasks that resume, folders of results, run records, random streams."""
