"""A portfolio that runs: replays of files, studies, and a drill."""
