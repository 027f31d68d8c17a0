"""How weights and utility respond to the inputs."""
