"""The build tool: makes an application into a component. None of it is in the component."""
