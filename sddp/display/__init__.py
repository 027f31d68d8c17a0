"""Display of objects: notebook tables, figures, fonts, progress on a terminal."""
