"""A migration in a browser: how far it is, what failed, and the buttons of an operator."""
