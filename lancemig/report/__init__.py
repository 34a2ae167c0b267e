"""Plans, states and outcomes as text for people and JSON for programs; nothing here reads or prints."""
