"""Pictures: their kinds and names, where the gateway keeps them, and how clients get them."""
