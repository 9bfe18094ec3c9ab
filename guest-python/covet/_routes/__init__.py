"""What a route is compiled into when the application is built: from the signature of its handler to one function."""
