"""Pure decisions: no clock, no network, no disk. What they need comes in as arguments."""
