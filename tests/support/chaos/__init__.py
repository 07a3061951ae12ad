"""Random faults, and a checker that judges what came of them."""
