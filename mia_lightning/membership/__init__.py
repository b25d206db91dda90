"""Who the members of a training are: a record of both sides, and the comparison of a later audit's sides with it."""
