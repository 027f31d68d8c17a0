"""Rules followed along paths under terms that the plain rollout does not have."""
