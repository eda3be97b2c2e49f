"""Pages, JSON, live events, webhooks, sign-in. Reads through doors, acts by asking the engine's office."""
