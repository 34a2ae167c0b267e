"""Plans, states and results as text for people and as JSON for programs. Nothing here prints."""
