"""What the host is to an application, natively: routing, streams, statistics."""
