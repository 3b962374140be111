"""What the WebSocket consumer is made of: frames, rights, windows, subscriptions, hints."""
