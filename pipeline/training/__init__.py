"""The training recipe: loss, schedule, loop."""
