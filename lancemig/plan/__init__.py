"""A line of revisions and a live catalog become a plan; nothing here touches the outside."""
