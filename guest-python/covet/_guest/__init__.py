"""What runs in a component only: the bindings, the event loop, and what stands in for what the sandbox lacks."""
