"""Records, ids, rules and errors that everything else is written in. Pure: no I/O, no clock."""
