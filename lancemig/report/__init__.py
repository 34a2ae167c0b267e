"""Plans, states and outcomes as text for people and JSON for programs; prints nothing."""
