"""Planning: a chain of revisions and a live catalog become a plan. Nothing here touches the outside."""
