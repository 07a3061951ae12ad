"""Random faults, and a checker that judges the result."""
